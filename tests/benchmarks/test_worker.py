"""The worker's benchmark can be believed: its mix, its generators of load, and what it makes of measurements."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from deploy.local import LocalStack
from tests.benchmarks.worker import feed, report
from tests.benchmarks.worker.__main__ import Run
from tests.benchmarks.worker.arrivals import Outcomes, poisson
from tests.benchmarks.worker.gpu_usage import GpuUsage
from tests.benchmarks.worker.http_load import CONCURRENCY, batches, measure
from tests.benchmarks.worker.plan import QUICK
from tests.benchmarks.worker.rivals import environment
from tests.benchmarks.worker.usage import cpu_seconds, resident_mb


def test_the_mix_is_seven_texts_in_ten_and_a_tenth_of_the_pictures_come_again() -> None:
    kinds = list(feed.draw_kinds(20_000, random.Random(1)))
    pictures = [kind for kind in kinds if kind.has_picture]
    assert len(pictures) / len(kinds) == pytest.approx(0.3, abs=0.01)
    assert sum(not kind.has_text for kind in kinds) / len(pictures) == pytest.approx(0.1, abs=0.015)
    assert sum(kind.is_repeated for kind in pictures) / len(pictures) == pytest.approx(0.1, abs=0.015)
    assert all(kind.has_text or kind.has_picture for kind in kinds)


def test_made_up_texts_are_as_long_as_tweets() -> None:
    chance = random.Random(1)
    lengths = sorted(len(feed.made_up_text(chance).split()) for _ in range(5000))
    assert lengths[0] == 1
    assert lengths[2500] == pytest.approx(20, abs=1)
    assert lengths[4750] == pytest.approx(27, abs=1)
    assert lengths[-1] <= 35


def test_a_feed_begins_again_at_its_end_under_other_ids(tmp_path: Path) -> None:
    posts = feed.make(20, ["one", "two"])
    feed.write(tmp_path / "feed", posts)
    again = feed.read(tmp_path / "feed", 15, 10)
    assert [post.id for post in again] == [f"bench:{place}" for place in range(15, 25)]
    assert [post.text for post in again] == [post.text for post in (posts + posts)[15:25]]
    assert [post.images for post in again] == [post.images for post in (posts + posts)[15:25]]


def test_repeated_pictures_have_the_bytes_of_earlier_ones() -> None:
    pictures = feed.Pictures(random.Random(1))
    first = [pictures.draw(is_repeated=False) for _ in range(4)]
    assert len({image.sha256 for image in first}) == 4
    assert pictures.draw(is_repeated=True) in first


def test_arrivals_come_at_the_rate_and_as_irregularly_as_independent_senders() -> None:
    due = poisson(50.0, 10_000, seed=3)
    gaps = [later - earlier for earlier, later in zip(due, due[1:], strict=False)]
    assert due == sorted(due)
    assert due[-1] == pytest.approx(200, rel=0.05)
    assert sum(gap < 0.02 * 0.6931 for gap in gaps) / len(gaps) == pytest.approx(
        0.5, abs=0.02
    )  # the median: ln 2 / rate


def test_large_batches_do_not_look_faster_than_small_ones() -> None:
    one_by_one = Outcomes([0.0] * 100, [0.1 * place for place in range(1, 101)])
    by_fifty = Outcomes([0.0] * 100, [5.0] * 50 + [10.0] * 50)
    assert one_by_one.throughput == by_fifty.throughput == pytest.approx(10)


def test_latencies_run_from_when_a_post_was_due() -> None:
    assert Outcomes([1.0, 2.0], [1.5, 2.25]).summary()["latencies_ms"] == [500, 250]


class Upstream:
    """Answers each request after `wait_s`; every fifth one not at all well if `is_faulty`."""

    def __init__(self, wait_s: float = 0.0, *, is_faulty: bool = False) -> None:
        self.wait_s, self.is_faulty = wait_s, is_faulty
        self.seen = self.under_way = self.most = 0

    async def answer(self, request: web.Request) -> web.Response:
        ((post,),) = ((await request.json())["posts"],)
        self.seen += 1
        number = self.seen
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.wait_s)
        self.under_way -= 1
        if self.is_faulty and number % 5 == 0:
            return web.Response(status=503)
        return web.json_response([{"text": post["text"], "mates": 2, "tokens": 3, "longest": 4}])


@pytest.fixture
async def serve() -> AsyncIterator[object]:
    runners = []

    async def start(upstream: Upstream) -> str:
        application = web.Application()
        application.router.add_post("/predict", upstream.answer)
        runner = web.AppRunner(application)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/predict"

    yield start
    for runner in runners:
        await runner.cleanup()


def options(url: str, folder: Path, count: int, rate: float) -> argparse.Namespace:
    feed.write(folder / "feed", feed.make(20, [f"text {place}" for place in range(20)]))
    return argparse.Namespace(url=url, feed=folder / "feed", first=0, count=count, rate=rate)


async def test_a_closed_loop_keeps_so_many_requests_under_way(serve, tmp_path: Path) -> None:
    upstream = Upstream(0.05)
    asked = options(await serve(upstream), tmp_path, 3 * CONCURRENCY, 0.0)
    outcomes, answers = await measure(asked)
    assert upstream.seen == 3 * CONCURRENCY
    assert upstream.most == CONCURRENCY
    assert outcomes.failed == 0
    assert [answer["text"] for answer in answers] == [post.text for post in feed.read(asked.feed, 0, asked.count)]


async def test_an_open_loop_sends_on_while_answers_are_slow(serve, tmp_path: Path) -> None:
    upstream = Upstream(0.5)
    outcomes, _ = await measure(options(await serve(upstream), tmp_path, 60, 200.0))
    assert upstream.most > 30
    assert min(outcomes.summary()["latencies_ms"]) >= 500


async def test_requests_turned_away_are_counted(serve, tmp_path: Path) -> None:
    outcomes, _ = await measure(options(await serve(Upstream(is_faulty=True)), tmp_path, 50, 0.0))
    assert outcomes.failed == 10


def test_the_rivals_run_our_predictor_on_the_versions_we_test() -> None:
    lines = environment.REQUIREMENTS.read_text().splitlines()
    pins = {line for line in lines if line and not line.startswith(("#", "bentoml", "litserve", "openvino"))}
    tested = (environment.ROOT / "requirements.txt").read_text().splitlines()
    assert pins <= {line.split(" ;")[0] for line in tested}


def test_answers_tell_of_their_batches() -> None:
    alone = {"mates": 1, "tokens": 10, "longest": 10}
    pair = [{"mates": 2, "tokens": 5, "longest": 15}, {"mates": 2, "tokens": 15, "longest": 15}]
    assert batches([alone, *pair, None]) == {"size_mean": 1.5, "pad_waste": pytest.approx(0.25)}


def test_ratios_are_medians_over_rounds_of_the_same_number() -> None:
    stages = {
        "worker": stage([200, 300, 400], [10, 20]),
        "litserve": stage([100, 100, 400], [100, 200]),
    }
    ratios = report.summed_up(stages)["ratios"]
    assert ratios["worker / litserve"] == 2  # of 2, 3 and 1
    assert ratios["p99 at 0.7, worker / litserve"] == pytest.approx(0.1, abs=0.01)


def test_an_interrupted_run_tells_what_it_has() -> None:
    found = {"worker": stage([200, 300], [10, 20]), "bentoml": stage([100], [100, 200]), "bare": {}, "naive": {}}
    del found["bentoml"]["load 0.7"]
    assert report.summed_up(found)["ratios"] == {"worker / bentoml": 2}
    assert "bentoml" in report.table(report.summed_up(found) | {"rounds": 2})


async def test_a_stage_that_was_interrupted_leaves_no_trace(tmp_path: Path) -> None:
    class Interrupted:
        name = "worker"
        stages = iter([*stage([200.0, 200.0], [10, 20])["saturation"]])

        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def measure(self, first: int, count: int, rate: float) -> dict[str, object]:
            if (found := next(self.stages, None)) is None:
                raise asyncio.CancelledError
            return found

    run = Run(QUICK, LocalStack(tmp_path), tmp_path, ["worker"])
    with pytest.raises(asyncio.CancelledError):
        await run.one(Interrupted(), 100.0)
    assert [*run.found["worker"]] == ["saturation"]
    assert report.summed_up(run.found)["ratios"] == {}


def stage(rates: list[float], latencies_ms: list[float]) -> dict[str, list[dict[str, object]]]:
    one = {
        "latencies_ms": latencies_ms,
        "offered_posts_per_s": 0.0,
        "failed": 0,
        "sender_late_ms": 0.0,
        "cpu_ms_per_post": {"system": 1.0},
        "cpu_share": {"system": 0.5},
        "memory_mb": {"system": 100.0},
    }
    rounds = [one | {"throughput_posts_per_s": rate} for rate in rates]
    return {"saturation": rounds, "load 0.7": rounds, "idle": rounds}


def test_usage_sees_what_a_process_and_its_children_cost(tmp_path: Path) -> None:
    before = cpu_seconds([os.getpid()])
    sum(number * number for number in range(3_000_000))
    assert cpu_seconds([os.getpid()]) > before
    assert resident_mb([os.getpid()]) > 10
    assert cpu_seconds([2**22 + 1]) == 0  # no such process


async def test_a_gpu_is_watched_from_the_first_busy_sample_to_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver, has_told = tmp_path / "nvidia-smi", tmp_path / "told"
    samples = r"0, 500\n90, 700\n0, 800\n60, 700\n0, 700\n9"
    driver.write_text(f"#!/bin/sh\nprintf '{samples}'\n: >{has_told}\nexec sleep 60\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with GpuUsage() as gpu:
        async with asyncio.timeout(10):
            while not has_told.exists():
                await asyncio.sleep(0.01)
    assert gpu.found == {"busy_share": 0.5, "memory_mb": 800}


def test_without_a_gpu_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with GpuUsage() as gpu:
        pass
    assert gpu.found == {}


def test_a_report_can_be_kept_as_json() -> None:
    found = report.summed_up({"worker": stage([200], [10, 20])})
    assert json.loads(json.dumps(found))["systems"]["worker"]["saturation"]["throughput_posts_per_s"] == 200
