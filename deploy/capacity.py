"""`moodstream capacity`: what a rate of posts needs in GPUs, cores, brokers, store nodes, money and time."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from typing import Any, Final

from deploy.errors import Misuse
from deploy.printing import print_json, print_line

RATES: Final = (6_000.0, 100_000.0)
"""All of X, in public posts a second; and what nobody has yet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_positive, action="append", help="posts a second at the peak; again for more")
    parser.add_argument("--rollup-days", type=_positive, default=2.0, help="how long rollups and receipts are kept")
    parser.add_argument("--post-days", type=_positive, default=2.0, help="how long texts and pictures are kept")
    parser.add_argument("--headroom", type=_positive, default=0.7, help="share of each part that may be in use")
    parser.add_argument("--gpu-rate", type=_positive, help="posts a second that a GPU of yours was measured at")
    parser.add_argument(
        "--cost", metavar="NAME=VALUE", action="append", default=[], help="what a post costs; see --json"
    )
    parser.add_argument("--price", metavar="NAME=DOLLARS", action="append", default=[], help="yours; see --json")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")


def run(options: argparse.Namespace) -> int:
    from deploy.sizing import Costs, Prices, Wishes, limits, plan, replaced  # numpy is slow to load

    try:
        costs = replaced(Costs(), _figures(options.cost))
        prices = replaced(Prices(), _figures(options.price))
        if options.gpu_rate is not None:
            costs = replaced(costs, {"gpu_posts_per_s": options.gpu_rate})
        wishes = Wishes(rollup_days=options.rollup_days, post_days=options.post_days, headroom=options.headroom)
    except ValueError as error:
        raise Misuse(str(error)) from error
    plans = [plan(rate, costs, prices, wishes).as_dict() for rate in options.rate or RATES]
    alone = limits(costs, wishes)
    if options.json:
        told = {name: asdict(value) for name, value in (("costs", costs), ("prices", prices), ("wishes", wishes))}
        print_json({"plans": plans, "limits_posts_per_s": alone, **told, "assumed": assumed(costs)})
        return 0
    for one in plans:
        print_line(_told(one))
    print_line("one of each bears: " + ", ".join(f"{name} {bears:,.0f}/s" for name, bears in alone.items()))
    print_line("assumed, so give your own: GPUs (--gpu-rate), brokers, nodes (--cost), prices (--price)")
    return 0


def assumed(costs: Any) -> list[str]:
    """Figures that nobody has measured."""
    return [*(one.name for one in fields(costs) if one.metadata.get("assumed")), "prices"]


def _told(plan: dict[str, Any]) -> str:
    parts = [
        f"  {part['name']:<14} {part['count']:>5} {part['unit']}, {part['load']:.0%} in use" for part in plan["parts"]
    ]
    return "\n".join(
        [
            f"{plan['posts_per_s']:,.0f} posts/s: {plan['dollars_hour']:,.0f} $/h, {plan['dollars_month']:,.0f} $ "
            f"a month; p50 {plan['latency_ms']['p50']:.0f} ms, p99 {plan['latency_ms']['p99']:.0f} ms",
            *parts,
            f"  {plan['workers']} workers, {plan['partitions']} partitions, {plan['shards']} shards; "
            f"first to break: {plan['first_to_break']}",
        ]
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: use a number above 0")
    return value


def _figures(given: list[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            found[name] = _positive(value)
        except (ValueError, argparse.ArgumentTypeError):
            raise ValueError(f"{one!r}: use NAME=VALUE, a number above 0") from None
    return found
