"""`python -m ingest SOURCE …`: read settings, configure logging, run."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

import msgspec

from ingest.arguments import add_arguments
from ingest.authors import AuthorHash
from ingest.errors import IngestError, Misuse
from ingest.service import run
from ingest.settings import Settings
from ingest.sources.detect import SourceOptions, open_source
from ingest.topics import load_topics


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 Kafka out of reach, 2 misuse."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description="Send a source's posts to Kafka.")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it comes back as our errors
    try:
        settings = Settings.from_env()
        topics = load_topics(arguments.topics or settings.topics_path)
        options = SourceOptions(
            authors=AuthorHash(settings.author_key),
            split=arguments.split,
            column_map=dict(arguments.column_map),
            in_time_order=arguments.speed is not None,
        )
        source = open_source(arguments.source, options)
        report = asyncio.run(run(source, settings, topics=topics, speed=arguments.speed, limit=arguments.limit))
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
