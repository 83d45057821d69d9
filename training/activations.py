"""What an engine of whole numbers must know of the image encoder's activations: how large they get, and their means.

    python -m training.activations --artifact DIRECTORY --mvsa MVSA

measures them on training pictures anew, beside an artifact that is there already. No post's result depends on its
batch-mates by them: they are fixed once and for all posts.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from training.batches import Collator
from training.datasets.example import Example
from training.datasets.mvsa import read_mvsa
from training.graphs import WEIGHTS_FILE, decode_weights

ACTIVATIONS_FILE = "activations.safetensors"
GRAPH = "image_encoder"
PICTURES = 384
BATCH_SIZE = 8
SAMPLED = 20_000
"""Of the values of each tensor in each batch."""
PERCENTILE = 99.99
"""What is larger is cut off: single values several times as large would take the precision of all others."""


def measure_activations(
    folder: Path, batches: Iterable[NDArray[np.float32]], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """`<graph>/<value>.size`: PERCENTILE of the absolute values of what leaves a convolution, or a sum of such, for
    others without a bound; `<graph>/<value>.mean`: (C,) float16, of what goes into convolutions from the first such
    value on. Nothing of a network with other activations than ReLU6.

    batches: of pixel_values, (B, 3, H, W)
    """
    graph = onnx.load(folder / f"{GRAPH}.onnx", load_external_data=False)
    unbounded = _unbounded(graph.graph)
    inputs = _inputs(graph.graph, unbounded)
    if not inputs:
        return {}
    names = sorted({*unbounded, *inputs})
    session = _session(graph, folder, names)
    chance = np.random.default_rng(seed)
    sampled: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    means: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for pixel_values in batches:
        found = dict(zip(names, session.run(None, {"pixel_values": pixel_values}), strict=True))
        for name in unbounded:
            values = np.abs(found[name]).ravel()
            sampled[name].append(chance.choice(values, min(SAMPLED, len(values)), replace=False))
        for name in inputs:
            means[name].append(found[name].mean(axis=(0, 2, 3), dtype=np.float64))
    sizes = {name: np.percentile(np.concatenate(values), PERCENTILE) for name, values in sampled.items()}
    return {
        **{f"{GRAPH}/{name}.size": np.array(size, np.float32) for name, size in sizes.items()},
        **{f"{GRAPH}/{name}.mean": np.mean(every, axis=0).astype(np.float16) for name, every in means.items()},
    }


def _unbounded(graph: onnx.GraphProto) -> list[str]:
    """What convolutions put out, and sums of such, that goes into nothing but convolutions and sums."""
    users = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            users[name].add(node.op_type)
    found: list[str] = []
    for node in graph.node:
        is_sum = node.op_type == "Add" and all(name in found for name in node.input)
        if (is_sum or node.op_type == "Conv") and users[node.output[0]] <= {"Conv", "Add"}:
            found.append(node.output[0])
    return found


def _inputs(graph: onnx.GraphProto, unbounded: Sequence[str]) -> list[str]:
    """Of convolutions, from the first such value on; none if what one of them puts out has neither bound nor size."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    first = next((place for place, node in enumerate(convolutions) if node.input[0] in unbounded), len(convolutions))
    known = {*unbounded, *(node.input[0] for node in graph.node if node.op_type == "Clip")}
    if any(node.output[0] not in known for node in convolutions[first:]):
        return []
    return list(dict.fromkeys(node.input[0] for node in convolutions[first:]))


def _session(graph: onnx.ModelProto, folder: Path, outputs: Sequence[str]) -> onnxruntime.InferenceSession:
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    prefix = f"{GRAPH}/"
    weights = decode_weights(load_file(folder / WEIGHTS_FILE))
    mine = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    used = {name for node in graph.graph.node for name in node.input}
    options = onnxruntime.SessionOptions()
    mine = {name: weight for name, weight in mine.items() if name in used}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weight)) for weight in mine.values()]
    options.add_external_initializers(list(mine), values)
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def write_activations(folder: Path, examples: Sequence[Example], *, seed: int = 0) -> None:
    """activations.safetensors of an artifact directory, from some of these examples; none if there is nothing to tell.

    examples: posts with a picture each.
    """
    measured = measure_activations(folder, _pictures(folder, examples, np.random.default_rng(seed)), seed=seed)
    if measured:
        save_file(measured, folder / ACTIVATIONS_FILE)


def _pictures(folder: Path, examples: Sequence[Example], chance: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    collator = Collator(Tokenizer.from_file(str(folder / "tokenizer.json")))
    chosen = chance.choice(len(examples), min(PICTURES, len(examples)), replace=False)
    for start in range(0, len(chosen), BATCH_SIZE):
        batch = collator([examples[place] for place in chosen[start : start + BATCH_SIZE]])
        assert batch.pixel_values is not None
        yield np.ascontiguousarray(batch.pixel_values.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--mvsa", type=Path, required=True, help="MVSA-Single: pictures of its training split")
    arguments = parser.parse_args()
    folder: Path = arguments.artifact
    write_activations(folder, read_mvsa(arguments.mvsa).splits["train"])
    description = json.loads((folder / "artifact.json").read_text())
    checksum = hashlib.sha256((folder / ACTIVATIONS_FILE).read_bytes()).hexdigest()
    description["sha256"] = dict(sorted({**description["sha256"], ACTIVATIONS_FILE: checksum}.items()))
    (folder / "artifact.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
