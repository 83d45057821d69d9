"""How soon drift is noticed: posts from a change amid real tweets to the first flag; and flags where nothing changed.

    python -m tests.benchmarks.drift --feeds ../shared/feeds --data ../shared/data --json [--first-seed 0] [--seeds 10]

`labels` goes from 63 % negative to 20 %, `mild labels` to 50 %; `boston` and `semeval` are other people's tweets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from dashboard.evaluation.drift import drift
from tests.dashboard.evaluation.changes import BEFORE, Change, Scored, changed_feed, scored_tweets
from tests.dashboard.evaluation.feeds import feed_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--feeds", type=Path, required=True, help="folder of us_airline_2015.csv and boston_2013.csv")
    parser.add_argument("--data", type=Path, required=True, help="folder of tweet_sentiment.parquet")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scored = scored_tweets(options.feeds, options.data)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found = [measured(scored, change, seeds) for change in get_args(Change)]
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else "".join(map(_told, found)))


def measured(scored: Scored, change: Change, seeds: range) -> dict[str, Any]:
    """delays: in posts, of the seeds that noticed it in time, the soonest first; false alarms: flags before it."""
    delays, by, false_alarms = [], Counter[str](), 0
    for seed in seeds:
        rows = changed_feed(scored, change, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            flags = drift(feed_of(Path(folder), rows)).flags
        start = len(rows) if change == "none" else BEFORE
        false_alarms += sum(flag.row < start for flag in flags)
        if right := [flag for flag in flags if flag.row >= start]:
            delays.append(right[0].row - start)
            by[right[0].signal] += 1
    return {
        "change": change,
        "feeds": len(seeds),
        "noticed": len(delays),
        "delays": sorted(delays),
        "first by": dict(by),
        "false alarms": false_alarms,
    }


def _told(found: dict[str, Any]) -> str:
    delays = found["delays"]
    when = f"after {statistics.median(delays):.0f} posts in the median, {delays[-1]} at most" if delays else "never"
    return (
        f"{found['change']}: noticed in {found['noticed']} of {found['feeds']} feeds, {when}; "
        f"{found['false alarms']} false alarms\n"
    )


if __name__ == "__main__":
    main()
