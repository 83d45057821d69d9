"""As much of ONNX's file format as it takes to read and edit a graph, by protobuf, which ONNX Runtime brings along.

Fields that are not named here are kept as they are. Numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Model": {
        "ir_version": (1, "int64"),
        "graph": (7, "Graph"),
        "opset_import": (8, "Opset*"),
    },
    "Opset": {"domain": (1, "string"), "version": (2, "int64")},
    "Graph": {
        "node": (1, "Node*"),
        "name": (2, "string"),
        "initializer": (5, "Tensor*"),
        "input": (11, "Value*"),
        "output": (12, "Value*"),
    },
    "Node": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "name": (3, "string"),
        "op_type": (4, "string"),
        "attribute": (5, "Attribute*"),
        "domain": (7, "string"),
    },
    "Attribute": {
        "name": (1, "string"),
        "f": (2, "float"),
        "i": (3, "int64"),
        "s": (4, "bytes"),
        "t": (5, "Tensor"),
        "ints": (8, "int64*"),
        "type": (20, "int32"),
    },
    "Tensor": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
    },
    "Value": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int32"), "shape": (2, "Shape")},
    "Shape": {"dim": (1, "Dimension*")},
    "Dimension": {"dim_value": (1, "int64"), "dim_param": (2, "string")},
}
"""Of each message the fields by name: number and type, `*` for repeated ones."""
_SCALARS: Final = {"float": 2, "int32": 5, "int64": 3, "string": 9, "bytes": 12}
_MESSAGE: Final = 11
_DATA_TYPES: Final = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
_NAMES: Final = {number: name for name, number in _DATA_TYPES.items()}
_OF_INTEGER, _OF_TENSOR = 2, 4
MICROSOFT: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def _declare() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="moodstream/onnx.proto", package="moodstream.onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            one = kind.removesuffix("*")
            declared = message.field.add(name=field, number=number, label=3 if kind != one else 1)
            declared.type = _SCALARS.get(one, _MESSAGE)
            if one not in _SCALARS:
                declared.type_name = f".moodstream.onnx.{one}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"moodstream.onnx.{name}"))
        for name in _MESSAGES
    }


_CLASSES: Final = _declare()


def read(data: bytes) -> Any:
    """Bytes of an .onnx file → model."""
    return _CLASSES["Model"].FromString(data)


def initializers(data: bytes) -> list[str]:
    """Bytes of an .onnx file → names of the tensors it declares."""
    return [one.name for one in read(data).graph.initializer]


def new(inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]]) -> Any:
    """An empty model; inputs and outputs are name and data type, of any shape."""
    model = _CLASSES["Model"](ir_version=10)
    model.opset_import.add(domain="", version=20)
    model.graph.name = "made"
    for values, wanted in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for name, data_type in wanted:
            values.add(name=name).type.tensor_type.elem_type = _DATA_TYPES[data_type]
    return model


def node(operator: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: int | np.ndarray) -> Any:
    """A node with one output; attributes are whole numbers or tensors."""
    made = _CLASSES["Node"](op_type=operator, input=inputs, output=[output], domain=domain)
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            made.attribute.add(name=name, t=tensor("", value), type=_OF_TENSOR)
        else:
            made.attribute.add(name=name, i=value, type=_OF_INTEGER)
    return made


def tensor(name: str, values: np.ndarray) -> Any:
    """An initializer with its values inside."""
    return _CLASSES["Tensor"](
        name=name, dims=values.shape, data_type=_DATA_TYPES[values.dtype.name], raw_data=values.tobytes()
    )


def values(initializer: Any) -> np.ndarray:
    """What an initializer holds. Raises KeyError if it is of a type that is not named here."""
    return np.frombuffer(initializer.raw_data, _NAMES[initializer.data_type]).reshape(tuple(initializer.dims))
