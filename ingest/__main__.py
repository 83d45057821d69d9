"""`python -m ingest SOURCE …`: read settings, configure logging, run."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from ingest.arguments import Request, add_arguments
from ingest.errors import IngestError, Misuse
from ingest.opening import open_asked
from ingest.service import run
from ingest.settings import Settings
from ingest.telemetry.logs import configure


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 Kafka or the source out of reach, 2 misuse."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description="Send a source's posts to Kafka.")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it comes back as our errors
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs the URL of each request, with what is in its query
    try:
        settings = Settings.from_env()
        configure(settings.log, plain="%(asctime)s %(name)s %(levelname)s %(message)s")
        settings = replace(settings, keep_all=settings.keep_all or arguments.keep_all)
        asked = open_asked(Request.of(arguments), settings)
        report = asyncio.run(
            run(
                asked.source,
                settings,
                topics=asked.topics.topics,
                topics_file=asked.topics,
                speed=arguments.speed,
                limit=arguments.limit,
            )
        )
    except IngestError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201  # the one line a user sees
        return 2 if isinstance(error, Misuse) else 1
    if arguments.json:
        print(msgspec.json.encode(report).decode())  # noqa: T201  # the answer asked for
    else:
        logging.getLogger("ingest").info("done: %s", msgspec.json.encode(report).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
