"""`python -m tests.pipeline.slow_worker`: a worker whose model takes ten milliseconds a post, on any machine."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

import faust

from inference_worker import artifact
from inference_worker.agent import create_app
from inference_worker.predictor import Scores
from inference_worker.preprocess import Example
from inference_worker.settings import Settings

POST_S = 0.01


def main() -> None:
    settings = Settings.from_env()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    predictor = artifact.load(settings.model, engine=settings.engine, threads=settings.engine_threads)
    predict = predictor.predict

    def slowly(examples: Sequence[Example]) -> list[Scores]:
        time.sleep(POST_S * len(examples))
        return predict(examples)

    predictor.predict = slowly  # type: ignore[method-assign]
    app = create_app(settings, predictor)
    faust.Worker(app, loglevel="INFO", redirect_stdouts=False, override_logging=False).execute_from_commandline()


if __name__ == "__main__":
    main()
