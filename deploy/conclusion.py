"""What a replay or an evaluation ends with: the merged predictions, the judgement, result.json and the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dashboard.runs import RESULT_FILE
from deploy.accounting import Account, Ledger, redis_needed
from deploy.undertaking import Undertaking
from deploy.verdict import judged
from inference_worker.redis_access import connect

if TYPE_CHECKING:
    from dashboard.parts import Parts

SHOWN: Final = (
    *("posts_read", "duplicates", "withdrawn", "predictions", "lost", "dead_letters"),
    *("throughput_posts_per_s", "accuracy", "macro_f1"),
)


def conclude(
    undertaking: Undertaking, account: Account, ledger: Ledger, parts: Parts, *, restarts: int
) -> dict[str, Any]:
    """Merges what was drained of a replay, judges it, and writes the result."""
    rows = parts.merge(undertaking.predictions, withdrawn=ledger.withdrawn_of(account.counts))
    account.check_drained(rows)
    return write_result(undertaking, account, rows, model=ledger.model(), restarts=restarts)


def write_result(
    undertaking: Undertaking, account: Account, rows: int, *, model: str, restarts: int = 0
) -> dict[str, Any]:
    """Judges the merged predictions; result.json, which is returned as well, is what became of all that was read."""
    result = {
        **account.as_dict(rows),
        "worker_restarts": restarts,
        **judged(undertaking.folder, undertaking.options.label_delay),
        "model": model,
        "report": str(undertaking.folder.resolve()),
    }
    (undertaking.folder / RESULT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    return result


def report_with_pictures(undertaking: Undertaking, redis_url: str) -> None:
    """The report for people, while the store still has the pictures."""
    from dashboard.report.examples import pictures
    from dashboard.report.render import write_report
    from inference_worker.contract import Results

    with redis_needed(redis_url), connect(redis_url) as redis:
        picture_of = pictures(Results(redis, undertaking.run.namespace))
        price = undertaking.options.hourly_price
        write_report(undertaking.folder, picture_of=picture_of, price_per_machine_hour=price)


def tell(result: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    for name in SHOWN:
        sys.stdout.write(f"{name:24}{result[name]}\n")
    sys.stdout.write(f"{'all of it':24}{folder / RESULT_FILE}\n")
