"""`python -m tests.pipeline.failing_worker`: a worker whose model throws at posts that say `poison`.

It is as old as if source `newer` wrote a schema it does not know.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import faust

from inference_worker import artifact, pipeline
from inference_worker.agent import create_app
from inference_worker.settings import Settings
from ingest.contract import NewerSchema, Post, Record, decode


def decode_old(data: bytes) -> Record:
    record = decode(data)
    if record.source == "newer":
        raise NewerSchema("upgrade the worker first")
    return record


def main() -> None:
    settings = Settings.from_env()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    predictor = artifact.load(settings.model, engine=settings.engine, threads=settings.engine_threads)
    prepare = predictor.prepare

    def throw_or_prepare(post: Post, *rest: Any) -> Any:
        if "poison" in post.text:
            raise RuntimeError("the model threw")
        return prepare(post, *rest)

    predictor.prepare = throw_or_prepare  # type: ignore[method-assign]
    pipeline.decode = decode_old  # type: ignore[attr-defined]  # it imports it
    app = create_app(settings, predictor)
    faust.Worker(app, loglevel="INFO", redirect_stdouts=False, override_logging=False).execute_from_commandline()


if __name__ == "__main__":
    main()
