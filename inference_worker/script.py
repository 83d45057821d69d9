"""`store.lua` and the arguments it takes, for the sink, people's amendments, dead letters and the doctor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from inference_worker.contract import TAIL_KEPT, Keys

SCRIPT: Final = (Path(__file__).parent / "store.lua").read_text(encoding="utf-8")
FIRST_BLOB: Final = 7
"""Index of the first blob among the script's arguments."""
NOTHING_NEW: Final[Mapping[int, Any]] = {}
"""Of a call that announces no share of new posts."""

_encoder = msgspec.msgpack.Encoder()


def named(keys: Keys) -> list[str]:
    """KEYS of a call. One exists and one never does: such a call Redis Cluster refuses (TRYAGAIN) as long as the slot
    is on its way to another node, when the script would find, and make, half of what it works on."""
    return [keys.counters, keys.never]


def arguments(
    keys: Keys,
    entries: Sequence[tuple[Any, ...]],
    blobs: Sequence[bytes] = (),
    *,
    announced: Mapping[int, Any] = NOTHING_NEW,
    worker: str = "",
    rollups_live_s: int = 0,
    posts_live_s: int = 0,
    results_kept: int = 0,
) -> list[Any]:
    """ARGV of a call, its entries as `store.lua` lays them out. Zero seconds are for ever, or as long as before.

    worker: whose calls are numbered (see `marks.py`); empty for none.
    """
    packed = _encoder.encode((entries, announced, worker))
    return [keys.prefix, packed, rollups_live_s, posts_live_s, results_kept, TAIL_KEPT, *blobs]
