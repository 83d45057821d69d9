"""Posts, kills, rebalances and poison at random times, and the account afterwards.

    python -m tests.benchmarks.storm --stack apache --seed 7 --json [--quick] [--posts 100000 --kills 20 …]

A local Jetstream tells posts (1 % with a picture, 2 % edited, 1 % deleted) at `--rate`. At times drawn from the seed
processes are killed with -9 and brought back up to two seconds later: workers and ingest, on Apache Kafka and
redis-server those two as well; workers join and leave; records no worker can score lie in between. In the end every
post told has to be in Redis once, with its last text and the engine's own answer, every rollup has to be the sum of the
posts, every record of the topic has to be settled once, and the poison in the dead letters with its reason.

Exit code 1 where anything is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.benchmarks.storm.storm import Plan, storm

QUICK: Final = Plan(posts=3000, kills=4, rebalances=4, poison=3, seed=0, rate=200.0)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.storm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posts", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rebalances", type=int, default=20)
    parser.add_argument("--poison", type=int, default=10)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="a random one by default")
    parser.add_argument("--rate", type=float, default=350.0, help="posts, edits and deletions a second")
    parser.add_argument("--stack", choices=("embedded", "apache"), default="embedded")
    parser.add_argument("--engine", choices=("null", "onnx"), default="null")
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always", help="of redis-server")
    parser.add_argument("--quick", action="store_true", help="3,000 posts, 4 kills, 4 rebalances, 3 poison")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs and data, which stay")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, last on stdout")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.stderr.write(f"seed {options.seed}\n")
    plan = plan_of(options)
    with tempfile.TemporaryDirectory(prefix="moodstream-storm-") as temporary:
        found = asyncio.run(storm(plan, options.keep or Path(temporary)))
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
    return int(bool(found["off"]))


def plan_of(options: argparse.Namespace) -> Plan:
    if options.quick:
        return replace(QUICK, seed=options.seed, stack=options.stack, engine=options.engine)
    names = ("posts", "kills", "rebalances", "poison", "seed", "rate", "stack", "engine", "appendfsync")
    return Plan(**{name: getattr(options, name) for name in names})


if __name__ == "__main__":
    sys.exit(main())
