"""Artifact directory → Predictor. The directory is a format: training writes it, nothing here knows training.

On load every file is checked against its sha256 and the golden rows are scored; a mismatch refuses to start. (The null
engine has nothing to prove: it answers without the model.)
"""

from __future__ import annotations

import base64
import hashlib
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from tokenizers import Tokenizer

from inference_worker.contract import LABELS, Distribution
from inference_worker.engines import whole_numbers
from inference_worker.engines.fixed import FixedEngine
from inference_worker.engines.null import NullEngine
from inference_worker.engines.onnx import OnnxEngine
from inference_worker.errors import ArtifactError
from inference_worker.languages import Languages
from inference_worker.predictor import Calibration, Engine, Predictor
from inference_worker.preprocess import ImageParameters, Preprocessor, TextParameters
from ingest.contract import Image, Post

SCHEMA = 2
UNTOLD_TOLERANCE = 0.05
"""For an engine that is younger than the artifact; a probability moves by 0.007 in the mean when rows become bytes."""
KINDS = ("text", "caption", "image", "both")

MODELLESS: Final = {engine.name: engine for engine in (NullEngine, FixedEngine)}

logger = logging.getLogger(__name__)


class _Temperature(msgspec.Struct):
    temperature: float


class Manifest(msgspec.Struct, kw_only=True):
    """artifact.json: what the worker reads of it; the rest is for people and the dashboard."""

    schema: int
    name: str
    version: str
    labels: tuple[str, ...]
    text: TextParameters
    image: ImageParameters
    calibration: dict[str, _Temperature]
    abstain_below: dict[str, float]
    sha256: dict[str, str]
    metrics: dict[str, Any] = {}
    languages: tuple[str, ...] = ("en",)


class _GoldenRow(msgspec.Struct):
    id: str
    expected: dict[str, Distribution | None]
    text: str | None = None
    image: str | None = None


class _Golden(msgspec.Struct):
    rows: list[_GoldenRow]
    tolerance: dict[str, float]


def load(directory: Path, *, engine: str = "onnx", threads: int = 0) -> Predictor:
    """Loads, verifies and warms up an artifact.

    engine: `onnx` multiplies whole numbers where the processor does so exactly, and floats elsewhere; `onnx-int8` and
    `onnx-float32` insist on one of the two; `torch` (products in float16) and `torch-float32` need a GPU,
    `torch-cpu` is the latter without one; `null` answers without a model, `fixed` does so in a known time.
    Raises ArtifactError naming the directory, what is wrong, and what to do.
    """
    manifest = read_manifest(directory)
    _check_files(directory, manifest)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rows, columns = manifest.image.grid
    runner: Engine
    if engine in MODELLESS:
        runner = MODELLESS[engine](rows * columns)
    elif engine.startswith("torch"):
        runner = _torch(directory, engine, manifest.text.max_tokens)
    else:
        runner = _onnx(directory, engine, threads)
    predictor = Predictor(
        name=engine if engine in MODELLESS else f"{manifest.name} {manifest.version}",
        engine=runner,
        preprocessor=Preprocessor(tokenizer, manifest.text, manifest.image),
        calibration=Calibration(
            temperature={kind: manifest.calibration[kind].temperature for kind in KINDS},
            abstain_below=manifest.abstain_below,
        ),
        label_order=[manifest.labels.index(label) for label in LABELS],
        languages=Languages(manifest.languages),
    )
    if engine in MODELLESS:
        logger.warning("engine %s: no model answers, and the golden rows are not replayed", engine)
    else:
        predictor.golden_deviation = _replay_golden_rows(directory, predictor)
    return predictor


def _onnx(directory: Path, engine: str, threads: int) -> OnnxEngine:
    is_exact = whole_numbers.are_exact()
    if engine == "onnx-int8" and not is_exact:
        raise ArtifactError("engine onnx-int8: this processor saturates products of bytes: use onnx or onnx-float32")
    wants_int8 = engine == "onnx-int8" or (engine == "onnx" and is_exact)
    return OnnxEngine(directory, threads=threads, precision="int8" if wants_int8 else "float32")


def _torch(directory: Path, engine: str, max_tokens: int) -> Engine:
    try:
        from inference_worker.engines.torch import TorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ArtifactError(
            f"engine {engine}: torch is not installed: pip install 'moodstream[gpu]', or use engine onnx"
        ) from error
    return TorchEngine(
        directory,
        max_tokens=max_tokens,
        device="cpu" if engine == "torch-cpu" else "cuda",
        precision="float16" if engine == "torch" else "float32",
    )


def read_manifest(directory: Path) -> Manifest:
    """Raises ArtifactError if artifact.json is missing, malformed or newer than this worker."""
    path = directory / "artifact.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ArtifactError(f"no artifact.json in {directory}: point MOODSTREAM_MODEL at an exported model") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactError(f"{path} is not an artifact manifest: {error}") from error
    if manifest.schema != SCHEMA:
        remedy = "upgrade it" if manifest.schema > SCHEMA else "export the model again"
        raise ArtifactError(f"{path} has schema {manifest.schema}, this worker reads {SCHEMA}: {remedy}")
    if sorted(manifest.labels) != sorted(LABELS):
        raise ArtifactError(f"{path} has labels {list(manifest.labels)}, this worker needs {list(LABELS)}")
    if missing := [kind for kind in KINDS if kind not in manifest.calibration or kind not in manifest.abstain_below]:
        raise ArtifactError(f"{path} lacks the calibration of {', '.join(missing)}: export it again")
    return manifest


def _check_files(directory: Path, manifest: Manifest) -> None:
    for name, expected in manifest.sha256.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: the artifact is incomplete, export or download it again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise ArtifactError(f"{path} has sha256 {found[:12]}…, the manifest says {expected[:12]}…: it was changed")


def _replay_golden_rows(directory: Path, predictor: Predictor) -> float:
    """The share of the tolerance that the worst of the rows needs. Raises ArtifactError where that is more than all."""
    path = directory / "golden.json"
    try:
        golden = msgspec.json.decode(path.read_bytes(), type=_Golden)
    except (OSError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}): export the artifact again") from error
    if not golden.rows:
        raise ArtifactError(f"{path} holds no rows: nothing proves that this model works here")
    tolerance = golden.tolerance.get(predictor.engine.name, UNTOLD_TOLERANCE)
    worst = 0.0
    for row in golden.rows:
        example = predictor.prepare(_post(row))
        predictor.proofs.setdefault(example.lane, example)
        scores = predictor.predict([example])[0]
        for kind, found in (("fused", scores.fused), ("text", scores.text), ("image", scores.image)):
            expected = _in_label_order(row.expected.get(kind), predictor)
            distance = _distance(expected, found)
            worst = max(worst, distance)
            if (expected is None) != (found is None) or distance > tolerance:
                raise ArtifactError(
                    f"{directory}: golden row {row.id!r} gives {kind} {found}, expected {expected} within {tolerance} "
                    f"on engine {predictor.engine.name}: this machine or library does not reproduce the model"
                )
    return worst / tolerance if tolerance else 0.0


def _in_label_order(expected: Distribution | None, predictor: Predictor) -> Distribution | None:
    if expected is None:
        return None
    first, second, third = predictor.label_order
    return expected[first], expected[second], expected[third]


def _distance(expected: Distribution | None, found: Distribution | None) -> float:
    if expected is None or found is None:
        return 0.0
    ordered = zip(expected, found, strict=True)
    return max(abs(wanted - got) for wanted, got in ordered)


def _post(row: _GoldenRow) -> Post:
    now = datetime.now(UTC)
    images: tuple[Image, ...] = ()
    if row.image is not None:
        jpeg = base64.b64decode(row.image)
        images = (Image(jpeg=jpeg, sha256=hashlib.sha256(jpeg).digest(), phash=b"", width=0, height=0),)
    return Post(
        id=f"golden:{row.id}", source="golden", created_at=now, ingested_at=now, text=row.text or "", images=images
    )
