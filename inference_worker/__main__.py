"""`python -m inference_worker`: one worker, configured by MOODSTREAM_* variables."""

from __future__ import annotations

import argparse
import asyncio
import sys

import faust

from inference_worker import artifact
from inference_worker.admission import refused, told
from inference_worker.agent import create_app
from inference_worker.errors import ArtifactError
from inference_worker.settings import Settings
from ingest.telemetry.logs import configure
from ingest.telemetry.tracing import Traces, TracingMissing

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
SWITCH_S = 0.0005
"""At Python's 5 ms the engine waited 2.6 ms a batch for the event loop to let go of the interpreter."""


def main() -> None:
    argparse.ArgumentParser(prog="inference_worker", description=__doc__).parse_args()
    sys.setswitchinterval(SWITCH_S)
    try:
        settings = Settings.from_env()
        configure(settings.log, plain=LOG_FORMAT)
        traces = Traces("worker", settings.traces) if settings.traces is not None else None
        if (trouble := asyncio.run(refused(settings))) is not None:
            sys.exit(f"inference_worker: {trouble}")
        predictor = artifact.load(settings.model, engine=settings.engine, threads=settings.engine_threads)
    except (ValueError, TracingMissing, ArtifactError) as error:
        sys.stderr.write(f"inference_worker: {error}\n")
        sys.exit(1 if isinstance(error, ArtifactError) else 2)
    app = create_app(settings, predictor, traces)
    worker = faust.Worker(app, loglevel="INFO", quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # it writes to stdout that all is well, also where nobody looks
    try:
        worker.execute_from_commandline()
    except Exception as error:  # faust raises again whatever it crashed of
        if (trouble := told(error, settings)) is None:
            raise
        sys.exit(f"inference_worker: {trouble}")


if __name__ == "__main__":
    main()
