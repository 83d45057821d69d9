"""`moodstream classify`: one-off scoring, one JSON object a line; no broker, no store."""

from __future__ import annotations

import argparse
import base64
import binascii
import itertools
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from deploy.errors import DeployError, Misuse

if TYPE_CHECKING:
    from inference_worker.contract import Distribution, Prediction
    from inference_worker.predictor import Predictor
    from ingest.contract import Post

LINES_AT_ONCE: Final = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", metavar="TEXT", help="text to score")
    parser.add_argument("--image", type=Path, metavar="FILE", help="picture to score, alone or with the text")
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help='lines of {"id", "text"?, "image"? (path or base64)}, - for standard input; an answer a line',
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="artifact to use instead of the shipped one")
    parser.add_argument("--json", action="store_true", help="accepted for likeness: the answer always is JSON")


def run(options: argparse.Namespace) -> int:
    alone = options.text is not None or options.image is not None
    if alone == (options.jsonl is not None):
        raise Misuse("classify takes TEXT and --image, or --jsonl FILE, and one of the two it needs")
    if options.jsonl is None:
        if options.text is not None and not options.text.strip() and options.image is None:
            raise Misuse(f"TEXT is {options.text!r}: give some text, or --image FILE")
        line = {"id": "1", "text": options.text, "image": str(options.image) if options.image else None}
        return _answer_all(load_predictor(options.model), iter([line]), Path())
    if options.jsonl == "-":
        return _answer_all(load_predictor(options.model), _parsed(sys.stdin), Path())
    try:
        with Path(options.jsonl).open(encoding="utf-8") as file:
            return _answer_all(load_predictor(options.model), _parsed(file), Path(options.jsonl).parent)
    except OSError as error:
        raise Misuse(f"--jsonl {options.jsonl}: {error.strerror}: name a file, or - for standard input") from error


def load_predictor(directory: Path | None) -> Predictor:
    """The artifact in a folder, or that of MOODSTREAM_MODEL, on the engine of MOODSTREAM_ENGINE."""
    from inference_worker.artifact import load  # loads ONNX Runtime and the weights
    from inference_worker.errors import ArtifactError
    from inference_worker.settings import Settings

    try:
        settings = Settings.from_env()
        return load(directory or settings.model, engine=settings.engine, threads=settings.engine_threads)
    except ArtifactError as error:
        raise DeployError(str(error)) from error
    except ValueError as error:
        raise Misuse(str(error)) from error


def _parsed(lines: IO[str]) -> Iterator[dict[str, Any]]:
    """Lines → requests; what is no JSON object becomes an answer with `error`, as its neighbours are fine."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except json.JSONDecodeError as error:
            yield {"id": f"line {number}", "error": f"no JSON: {error}"}
            continue
        if isinstance(request, dict):
            yield {"id": f"line {number}", **request}
        else:
            yield {"id": f"line {number}", "error": f"a JSON {type(request).__name__} where an object belongs"}


def _answer_all(predictor: Predictor, requests: Iterator[dict[str, Any]], folder: Path) -> int:
    """Answers in the order of the requests; exit code 1 if one of them could not be scored."""
    failures = 0
    while chunk := list(itertools.islice(requests, LINES_AT_ONCE)):
        for answer in _answers(predictor, chunk, folder):
            failures += "error" in answer
            sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    return 1 if failures else 0


def _answers(predictor: Predictor, requests: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    from inference_worker.errors import WorkerError
    from inference_worker.pipeline import prediction_of
    from ingest.errors import IngestError

    answers: list[dict[str, Any]] = [{} for _ in requests]
    lanes: dict[str, list[tuple[int, Any, Any]]] = {}
    for index, request in enumerate(requests):
        try:
            if "error" in request:
                raise ValueError(request["error"])
            post = _post(request, folder)
            example = predictor.prepare(post)
        except (IngestError, WorkerError, ValueError) as error:
            answers[index] = {"id": request["id"], "error": str(error)}
        else:
            lanes.setdefault(example.lane, []).append((index, post, example))
    for members in lanes.values():
        scored = predictor.predict([example for _, _, example in members])
        for (index, post, example), scores in zip(members, scored, strict=True):
            prediction = prediction_of(post, example, scores, datetime.now(UTC), predictor)
            answers[index] = _answer(requests[index]["id"], prediction)
    return answers


def _post(request: dict[str, Any], folder: Path) -> Post:
    """Raises ValueError or MalformedMedia if text or image cannot be used."""
    from ingest.contract import Post
    from ingest.media.sanitize import make_safe

    text, image = request.get("text"), request.get("image")
    if not isinstance(text, str | None) or not isinstance(image, str | None):
        raise ValueError("text and image must be strings or null")
    images = (make_safe(_bytes_of(image, folder)),) if image else ()
    now = datetime.now(UTC)
    return Post(
        id=f"classify:{request['id']}",
        source="classify",
        created_at=now,
        ingested_at=now,
        text=text or "",
        images=images,
    )


def _bytes_of(image: str, folder: Path) -> bytes:
    """A path, from the folder of the file that names it, or base64."""
    try:
        return (folder / image).read_bytes()
    except OSError:
        try:
            return base64.b64decode(image.partition("base64,")[2] or image, validate=True)
        except binascii.Error:
            raise ValueError(f"image {image[:60]!r} is neither a file that can be read nor base64") from None


def _answer(request_id: object, prediction: Prediction) -> dict[str, Any]:
    answer = {
        "id": request_id,
        "label": prediction.predicted,
        "confidence": round(prediction.confidence, 6),
        "abstain": prediction.abstained,
        "probabilities": _named(prediction.probabilities),
        "text": _named(prediction.text_probabilities),
        "image": _named(prediction.image_probabilities),
    }
    foreign = [f"language {prediction.lang}: the model does not know it"] if prediction.foreign else []
    warnings = [*foreign, *prediction.warnings]
    return {**answer, "warnings": warnings} if warnings else answer


def _named(distribution: Distribution | None) -> dict[str, float] | None:
    from inference_worker.contract import LABELS

    if distribution is None:
        return None
    return {label: round(value, 6) for label, value in zip(LABELS, distribution, strict=True)}
