"""A model that throws, hangs, gives NaN, or whose files change: a post is scored once, or a dead letter that says why.

One post that throws: test_dead_letters.py; a batch beyond memory: tests/inference_worker/test_pipeline.py.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import Service
from inference_worker.agent import EXIT_FAILED, EXIT_STALLED
from inference_worker.settings import DEFAULT_MODEL
from tests.pipeline.conftest import Pipeline, on_embedded
from tests.pipeline.test_faults import picture, post
from tests.pipeline.test_redis_faults import took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), on_embedded]


def test_an_engine_that_throws_or_hangs_is_started_anew_and_nan_is_a_dead_letter(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    illness = tmp_path / "illness"
    pipeline.more = {"MOODSTREAM_ENGINE": "null", "MOODSTREAM_WATCHDOG_S": "3", "MOODSTREAM_ILLNESS": str(illness)}
    worker = pipeline.start_worker("tests.pipeline.ill_worker")
    worker.keep_running = True  # as `moodstream up` does
    pipeline.wait_for_worker()
    sent = 0
    for symptom, code in (("throws", EXIT_FAILED), ("hangs", EXIT_STALLED)):
        illness.write_text(symptom)
        pipeline.send_fast([post(f"{symptom}-{number}") for number in range(50)], run="ill")
        sent += 50
        began_s = time.monotonic()
        pipeline.until(lambda: worker.child.exit_code() is not None, f"the engine {symptom}, and its worker ends", 60)
        assert worker.child.exit_code() == code
        assert pipeline.settled("ill") == sent - 50
        illness.unlink()
        took(f"{symptom}, until it ends", time.monotonic() - began_s)
        began_s = time.monotonic()
        pipeline.until(lambda: settled_with_restarts(pipeline, worker, "ill") >= sent, "all are scored", 60)  # noqa: B023
        took(f"{symptom}, recovery", time.monotonic() - began_s)
    illness.write_text("nan")
    pipeline.send_fast([post("nan", "word " * 60), *(post(f"well-{number}") for number in range(50))], run="ill")
    assert pipeline.wait_until_settled("ill", sent + 51, 60) == {"scored": sent + 50, "dead_letters": 1}
    (letter,) = pipeline.results.dead_letters()
    assert letter.key == "test:nan"
    assert "the text logits are not finite" in letter.error
    assert pipeline.results.total().posts == len({one.id for one in pipeline.predictions()}) == sent + 50


def settled_with_restarts(pipeline: Pipeline, worker: Service, run: str) -> int:
    pipeline.stack.check()
    return pipeline.settled(run)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "model"))


def test_a_worker_goes_on_with_the_model_it_loaded_and_the_next_checks_it(pipeline: Pipeline, model: Path) -> None:
    pipeline.more = {"MOODSTREAM_MODEL": str(model)}
    first = pipeline.start_worker()
    pipeline.wait_for_worker()
    for path in model.iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)  # in place: whoever reads it as it goes reads zeros
    jpeg = picture(320, 240, "JPEG")
    pipeline.send_fast([post("text"), post("image", "", jpeg), post("both", "nice view", jpeg)], run="damaged")
    pipeline.wait_until_settled("damaged", 3, 60)
    damaged = pipeline.start_worker()
    pipeline.until(lambda: damaged.child.exit_code() is not None, "a worker with a damaged model ends", 60)
    assert damaged.child.exit_code() == 1
    assert "artifact.json is not an artifact manifest" in damaged.child.log_tail(1)

    shutil.copytree(DEFAULT_MODEL, model, dirs_exist_ok=True)
    manifest = json.loads((model / "artifact.json").read_bytes())
    loaded = f"{manifest['name']} {manifest['version']}"
    (model / "artifact.json").write_text(json.dumps({**manifest, "version": "of tomorrow"}))
    pipeline.send_fast([post("swapped")], run="swapped")
    pipeline.wait_until_settled("swapped", 1, 60)
    assert {one.model for one in pipeline.predictions()} == {loaded}
    assert pipeline.stop_worker(first) == 0
    pipeline.start_worker()
    pipeline.send_fast([post("started")], run="started")
    pipeline.wait_until_settled("started", 1, 60)
    assert [one.model for one in pipeline.predictions()] == [f"{manifest['name']} of tomorrow"]
