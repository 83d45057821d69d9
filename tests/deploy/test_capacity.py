"""The capacity model: where its answer is known by hand, it gives it; what a command is told wrong is named."""

from __future__ import annotations

import json

import pytest

from deploy.cli import main
from deploy.queueing import Lane, Rates, arrivals, simulate
from deploy.sizing import Costs, Wishes, limits, plan, shares_of_nodes


def rates(cores: float = 0.0, host_s: float = 1e-6, store_post_s: float = 1e-6) -> Rates:
    lanes = {"text": Lane(share=1.0, call_s=0.06, item_s=0.004, most=64)}
    return Rates(lanes=lanes, cores=cores, host_s=host_s, store_call_s=0.0, store_post_s=store_post_s)


def throughput(of: Rates, workers: int = 1, cores: float = 2.0) -> float:
    return simulate(of, arrivals(1500 * workers, 0.0, of.lanes, workers, 16, seed=1), cores=cores).throughput()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_engines_of_their_own_add_up(workers: int) -> None:
    assert throughput(rates(), workers) == pytest.approx(workers * 64 / (0.06 + 64 * 0.004), rel=0.03)


@pytest.mark.parametrize("workers", [1, 2])
def test_engines_on_the_same_cores_share_them(workers: int) -> None:
    assert throughput(rates(cores=2), workers) == pytest.approx(2 * 64 / (0.06 + 64 * 0.004), rel=0.03)


def test_one_interpreter_bears_no_more_than_its_core() -> None:
    assert throughput(rates(host_s=0.01)) == pytest.approx(100, rel=0.06)


def test_a_store_node_bears_no_more_than_its_core() -> None:
    assert throughput(rates(store_post_s=0.002), workers=4) == pytest.approx(500, rel=0.03)


def test_a_store_on_the_workers_cores_takes_of_them() -> None:
    of = rates(cores=2, store_post_s=0.002)
    outcome = simulate(of, arrivals(1500, 0.0, of.lanes, 1, 16, seed=1), cores=2, is_store_aside=False)
    assert outcome.throughput() == pytest.approx(2 / (0.06 / 64 + 0.004 + 0.002), rel=0.03)


def test_a_lone_post_takes_what_its_batch_takes_and_waiting_grows_with_load() -> None:
    def latency_ms(rate: float) -> float:
        return simulate(rates(), arrivals(400, rate, rates().lanes, 1, 1, seed=1), cores=2).quantile_ms(0.5)

    assert latency_ms(0.1) == pytest.approx(64, abs=1)
    assert latency_ms(0.1) < latency_ms(50) < latency_ms(150)


def test_shards_lie_where_redis_puts_their_slots() -> None:
    assert shares_of_nodes(8, 1) == [(1.0, 8)]
    assert sum(share for share, _ in shares_of_nodes(24, 3)) == pytest.approx(1)


def test_a_plan_bears_its_rate_with_the_headroom_asked_for() -> None:
    few, many = plan(500, wishes=Wishes(rollup_days=2)), plan(3_000, wishes=Wishes(rollup_days=2))
    for one in (few, many):
        assert max(part.load for part in one.parts) <= 0.7
        assert one.latency_ms["p50"] < one.latency_ms["p99"] < 1_000
    assert few.dollars_hour < many.dollars_hour
    assert plan(500, wishes=Wishes(rollup_days=90)).dollars_hour > few.dollars_hour


def test_of_one_of_each_the_memory_for_receipts_is_full_first() -> None:
    assert next(iter(limits(Costs(), Wishes()))) == "Redis node, its memory"
    assert next(iter(limits(Costs(), Wishes(rollup_days=0.1, post_days=0.1)))) != "Redis node, its memory"


def test_the_command_says_what_it_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["capacity", "--rate", "200", "--gpu-rate", "900", "--price", "gpu_hour=1", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["costs"]["gpu_posts_per_s"], told["prices"]["gpu_hour"]) == (900, 1)
    assert {"gpu_posts_per_s", "prices"} <= set(told["assumed"])
    assert main(arguments[:3]) == 0
    assert capsys.readouterr().out.startswith("200 posts/s: ")


@pytest.mark.parametrize(
    ("given", "named"),
    [("nonsense=1", "unknown figure 'nonsense'"), ("host_text_s", "use NAME=VALUE"), ("host_text_s=-1", "above 0")],
)
def test_a_figure_that_cannot_be_is_named(capsys: pytest.CaptureFixture[str], given: str, named: str) -> None:
    assert main(["capacity", "--cost", given]) == 2
    assert named in capsys.readouterr().err
