"""Replays at size: throughput, memory over time, and the same answer after two kills.

    python -m tests.benchmarks.replay --json [--quick] [--posts N] [--engine null|onnx] [--texts FILE.parquet] [--once]

Makes a feed of N posts with ids of their own, replays it with --speed max, then once more, killed with -9 (the whole
process group) at a third and at two thirds and resumed each time, and compares rows, results and judgements; --once
leaves the second replay out. Judging and telling, once all is scored, are measured apart.

Exit code 1 where posts were lost or the two replays differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

ROOT: Final = Path(__file__).parents[2]
BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS: Final = ("--map", "id=id", "created_at=at", "label=mood", "text=words")
PASSING: Final = ("namespace", "run", "report", "seconds", "throughput_posts_per_s", "redelivered", "latency_ms")
PASSING_JUDGEMENT: Final = "performance"
PASSING_COLUMNS: Final = ("ingested_at", "scored_at", "queued_ms", "computed_ms")
FAULTS: Final = ("lost", "lost_when_killed", "different_results", "rows_differ", "different_judgements")
AT_THE_END: Final = "replay, judging"
SAMPLE_EVERY_S: Final = 1.0
WARM_SHARE: Final = 0.3
"""Of the time of a replay, after which memory should not grow any more."""
MODULES: Final = {"inference_worker": "worker", "deploy": "replay", "valkey-server": "store", "tansu": "broker"}


def write_feed(path: Path, posts: int, texts: Path | None) -> None:
    """A post a second; texts and labels of the Parquet file over and over, or made-up ones."""
    rows = [(f"{'very ' * (number % 9)}good number {number}", "positive") for number in range(997)]
    if texts is not None:
        table = pq.read_table(texts, columns=["text", "label"]).to_pydict()
        rows = list(zip(table["text"], table["label"], strict=True))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "at", "mood", "words"))
        for number in range(posts):
            text, mood = rows[number % len(rows)]
            writer.writerow((f"p{number}", (BEGAN + timedelta(seconds=number)).isoformat(), mood, text))


class Memory:
    """Resident megabytes of a replay's processes, and processor seconds, as time goes by."""

    def __init__(self, pid: int) -> None:
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._pid, self._began_s, self._stop = pid, time.monotonic(), threading.Event()
        self._had_worker = False
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def summary(self) -> dict[str, dict[str, float]]:
        """Per process: peak, and mean of the last tenth over the mean just after warming up."""
        found = {}
        for name, samples in self.samples.items():
            values = [megabytes for _, megabytes in samples]
            if name == AT_THE_END:
                found[name] = {"peak_mb": max(values), "seconds": round(samples[-1][0] - samples[0][0])}
                continue
            warm = values[int(len(values) * WARM_SHARE) :]
            tenth = max(1, len(warm) // 10)
            early, late = sum(warm[:tenth]) / tenth, sum(warm[-tenth:]) / tenth
            found[name] = {"peak_mb": max(values), "warm_mb": round(early), "growth": round(late / early - 1, 4)}
        return found

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            now = time.monotonic() - self._began_s
            sizes = _sizes([self._pid, *_children(self._pid)])
            has_worker = any(name == "worker" for name, _ in sizes)
            self._had_worker |= has_worker
            is_judging = self._had_worker and not has_worker
            for name, megabytes in sizes:
                self.samples[AT_THE_END if is_judging and name == "replay" else name].append((now, megabytes))


def _sizes(pids: Sequence[int]) -> list[tuple[str, float]]:
    """Name and resident megabytes of those that are still there."""
    found = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        resident = next((int(line.split()[1]) for line in status.splitlines() if line[:5] == "VmRSS"), 0)
        if resident:
            name = next((name for module, name in MODULES.items() if module in command), "other")
            found.append((name, round(resident / 1024)))
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Replays:
    """`moodstream replay` in a folder of its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.runs = folder / "runs"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")},
            "MOODSTREAM_RUNS": str(self.runs),
            "MOODSTREAM_ENGINE": engine,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "deploy", "replay", *arguments, "--json"]
        return subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def settled(self, namespace: str) -> int:
        try:
            return int(json.loads((self.runs / namespace / "run.json").read_bytes())["settled"])
        except FileNotFoundError:
            return 0

    def kill_at(self, goal: int, namespace: str, *arguments: str) -> None:
        """Started, and killed with all it started once so many posts are accounted for.

        Raises SystemExit if it ends before: nothing would be shown by going on with what is through.
        """
        process = self.start(*arguments)
        while self.settled(namespace) < goal and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            code = process.returncode
            raise SystemExit(
                f"the replay to be killed at {goal} posts ended before with exit code {code}: use more --posts"
            )

    def rows_differ(self, one: str, other: str) -> bool:
        """Whether the predictions differ in more than times."""
        return rows_differ(*(self.runs / name / "predictions.parquet" for name in (one, other)))

    def judgements_differ(self, one: str, other: str) -> list[str]:
        """In which of its parts what evaluation made of the predictions differs, but for times."""
        first, second = (json.loads((self.runs / name / "judgement.json").read_bytes()) for name in (one, other))
        return [name for name in first if name != PASSING_JUDGEMENT and first[name] != second[name]]


def rows_differ(one: Path, other: Path) -> bool:
    """Row by row, however the files are cut."""
    with pq.ParquetFile(one) as first, pq.ParquetFile(other) as second:
        if first.metadata.num_rows != second.metadata.num_rows or first.schema_arrow != second.schema_arrow:
            return True
        pairs = zip(_rows(first), _rows(second), strict=True)
        return any(mine != theirs for mine, theirs in pairs)


def _rows(file: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    columns = [name for name in file.schema_arrow.names if name not in PASSING_COLUMNS]
    for batch in file.iter_batches(20_000, columns=columns):
        yield from batch.to_pylist()


def exit_code(found: dict[str, Any]) -> int:
    """Of a measurement: 1 if it shows what must not be."""
    return int(any(found.get(name) for name in FAULTS))


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the replay ended with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def measure(folder: Path, posts: int, engine: str, texts: Path | None, *, once: bool) -> dict[str, Any]:
    feed, replays = folder / "feed.csv", Replays(folder, engine)
    write_feed(feed, posts, texts)
    process = replays.start(str(feed), *COLUMNS, "--namespace", "whole")
    memory = Memory(process.pid)
    try:
        whole = result_of(process)
    finally:
        memory.stop()
    found = {
        "posts": posts,
        "engine": engine,
        "throughput_posts_per_s": whole["throughput_posts_per_s"],
        "seconds": whole["seconds"],
        "lost": whole["lost"],
        "predictions": whole["predictions"],
        "memory": memory.summary(),
        "load": os.getloadavg()[1],
    }
    return found if once else found | killed_twice(replays, feed, posts, whole)


def killed_twice(replays: Replays, feed: Path, posts: int, whole: dict[str, Any]) -> dict[str, Any]:
    """The same replay once more, and what of it differs."""
    replays.kill_at(posts // 3, "killed", str(feed), *COLUMNS, "--namespace", "killed")
    replays.kill_at(2 * posts // 3, "killed", "--resume", "killed")
    killed_at = replays.settled("killed")
    killed = result_of(replays.start("--resume", "killed"))
    return {
        "last_killed_at": killed_at,
        "lost_when_killed": killed["lost"],
        "seconds_from_there": killed["seconds"],
        "redelivered": killed["redelivered"],
        "different_results": [name for name in whole if name not in PASSING and whole[name] != killed[name]],
        "rows_differ": replays.rows_differ("whole", "killed"),
        "different_judgements": replays.judgements_differ("whole", "killed"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=("null", "onnx"), default="null")
    parser.add_argument("--texts", type=Path, help="Parquet file with columns text and label")
    parser.add_argument("--quick", action="store_true", help="20,000 posts")
    parser.add_argument("--once", action="store_true", help="uninterrupted alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moodstream-benchmark-") as folder:
        posts = 20_000 if options.quick else options.posts
        found = measure(Path(folder), posts, options.engine, options.texts, once=options.once)
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
    return exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
