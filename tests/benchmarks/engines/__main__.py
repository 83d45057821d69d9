"""ONNX Runtime, OpenVINO and torch on one processor: what a call takes, and what each says of the same posts.

    python -m tests.benchmarks.engines [--json] [--quick] [--texts FILE.parquet] [--only NAME ...] [--threads N]

The same artifact, the same batches of one mixed feed (70 % texts, 30 % with a picture). Each engine runs in a process
of its own, anew in each round, one after the other; medians over the rounds. OpenVINO comes from the rivals'
environment (.moodstream/bench-venv, made at the first run), torch from .venv-train; what is not installed is named.
Labels and probabilities are compared with those of ONNX Runtime in float32.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from inference_worker import artifact
from inference_worker.engines.onnx import OnnxEngine
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import encode
from tests.benchmarks.engines.measure import Work
from tests.benchmarks.worker import ceiling, feed
from tests.benchmarks.worker.rivals import environment

ROOT: Final = Path(__file__).parents[3]
REFERENCE: Final = "onnx-float32"
ENGINES: Final = ("onnx-int8", REFERENCE, "openvino-float32", "openvino-int8", "torch-cpu")
TRAINING: Final = ROOT / ".venv-train" / "bin" / "python"


def interpreter(engine: str) -> Path:
    """The Python that has it. Raises FileNotFoundError or CalledProcessError."""
    if engine.startswith("openvino"):
        return environment.ensure()
    if not engine.startswith("torch"):
        return Path(sys.executable)
    if not TRAINING.is_file():
        raise FileNotFoundError("no .venv-train: make .venv-train/.train")
    return TRAINING


def make_work(count: int, texts: Path | None) -> Work:
    """The feed, and the batches that the worker's batcher makes of it."""
    posts = feed.make(count, feed.tweets(texts) if texts is not None else None)
    examples = ceiling.prepare(artifact.load(DEFAULT_MODEL, engine="null"), [encode(post) for post in posts])
    places = {id(example): place for place, example in enumerate(examples)}
    batches = asyncio.run(ceiling.cut(examples, OnnxEngine.max_padding))
    return Work(posts, [[places[id(item.payload)] for item in batch.items] for batch in batches])


def measure(engine: str, work: Path, *, seconds: float, threads: int) -> dict[str, Any]:
    """What `measure.py` found, or `missing`: why it could not be measured."""
    try:
        python = interpreter(engine)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return {"missing": str(error)}
    command = [python, "-m", "tests.benchmarks.engines.measure", "--engine", engine, "--model", DEFAULT_MODEL]
    command += ["--work", work, "--seconds", str(seconds), "--threads", str(threads)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def summed_up(rounds: Sequence[Mapping[str, Any]], reference: np.ndarray | None) -> dict[str, Any]:
    """Of one engine; reference: (N, 3), what float32 says."""
    if "missing" in rounds[0]:
        return dict(rounds[0])
    found = {
        "posts_per_s": statistics.median(one["posts_per_s"] for one in rounds),
        "posts_per_s_range": [min(one["posts_per_s"] for one in rounds), max(one["posts_per_s"] for one in rounds)],
        "cpu_ms_per_post": statistics.median(one["cpu_ms_per_post"] for one in rounds),
        "calls_ms": {
            name: statistics.median(one["calls_ms"][name] for one in rounds) for name in rounds[0]["calls_ms"]
        },
    }
    if reference is not None:
        answers = np.array(rounds[0]["answers"])
        found["label_agreement"] = float((answers.argmax(axis=1) == reference.argmax(axis=1)).mean())
        found["largest_difference"] = float(np.abs(answers - reference).max())
    return found


def table(engines: Mapping[str, Mapping[str, Any]]) -> str:
    names = next((list(one["calls_ms"]) for one in engines.values() if "calls_ms" in one), [])
    heads = " ".join(f"{name:>10}" for name in names)
    lines = [f"{'ms a call':18} {'posts/s':>8} {'cpu ms':>7} {heads}   labels  differs"]
    for engine, one in engines.items():
        if "missing" in one:
            lines.append(f"{engine:18} not installed: {one['missing']}")
            continue
        calls = " ".join(f"{one['calls_ms'][name]:10.2f}" for name in names)
        told = f"{one['label_agreement']:8.1%} {one['largest_difference']:8.4f}" if "label_agreement" in one else ""
        lines.append(f"{engine:18} {one['posts_per_s']:8.1f} {one['cpu_ms_per_post']:7.2f} {calls} {told}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--texts", type=Path, help="Parquet file with a column text; made-up texts by default")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=ENGINES, help="leave the others out")
    parser.add_argument("--threads", type=int, default=0, help="of an engine within a call; one per core by default")
    options = parser.parse_args()
    count, seconds, rounds = (120, 0.2, 1) if options.quick else (600, 1.0, 3)
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in options.only}
    with tempfile.TemporaryDirectory(prefix="moodstream-benchmark-") as folder:
        work = Path(folder) / "work.msgpack"
        work.write_bytes(msgspec.msgpack.encode(make_work(count, options.texts)))
        for number in range(rounds):
            for engine in options.only:
                print(f"round {number + 1}: {engine}", file=sys.stderr)
                found[engine].append(measure(engine, work, seconds=seconds, threads=options.threads))
    answers = found.get(REFERENCE, [{}])[0].get("answers")
    reference = np.array(answers) if answers is not None else None
    engines = {engine: summed_up(of_engine, reference) for engine, of_engine in found.items()}
    print(table(engines), file=sys.stderr)
    if options.json:
        print(json.dumps({"machine": platform.processor() or platform.machine(), "posts": count, "engines": engines}))


if __name__ == "__main__":
    main()
