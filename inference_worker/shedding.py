"""What a worker does when it is behind: says how far and, if it is told to, leaves posts unscored.

Off unless set. A post left unscored is shed: it counts in the volume of its topics, once, and nothing else is known of
it. By age, posts that are older than so many seconds since ingest are shed. By sampling, a share of the posts is scored
whose ids a hash chooses, the same ones for every worker and whenever they are delivered; what a smaller share scores, a
larger one scores too. Edits and deletions are never shed, nor is what a replay or a retry of a dead letter sends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal

from inference_worker.settings import Settings
from ingest.contract import Post

logger = logging.getLogger(__name__)

Reason = Literal["age", "sample"]
SHRINK_S: Final = 10.0
"""After a change, until the share shrinks again: a smaller one has to show in how far behind the worker is."""
GROW_S: Final = 30.0
"""The worker is well ahead for so long before the share grows."""
BEHIND_S: Final = 10.0
"""From here on it is told; below it a worker is only busy."""
TELL_S: Final = 60.0


class Shedding:
    """Decides for each post; called from one event loop.

    share: of the posts that are scored now. It halves while the worker is further behind than `sample_after_s` and not
    catching up, down to `sample_least`, and doubles once it has been less than half as far behind for GROW_S.
    """

    def __init__(self, settings: Settings, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        is_replay = settings.kind == "replay"  # which loses nothing
        self._after_s = 0.0 if is_replay else settings.shed_after_s
        self._least = 1.0 if is_replay else settings.sample_least
        self._too_far_s = settings.sample_after_s
        self._clock_s = clock_s
        self._changed_s = self._near_since_s = clock_s() - SHRINK_S
        self._behind_s = 0.0
        self.share = 1.0
        if is_replay and (settings.shed_after_s or settings.sample_least < 1):
            logger.warning("a replay loses nothing: MOODSTREAM_SHED_AFTER_S and MOODSTREAM_SAMPLE_LEAST are ignored")

    @property
    def is_on(self) -> bool:
        return self._after_s > 0 or self._least < 1

    def reason(self, post: Post, now: datetime) -> Reason | None:
        """Why the post is not to be scored; None if it is."""
        if post.is_edit:
            return None
        if self._after_s and (now - post.ingested_at).total_seconds() > self._after_s:
            return "age"
        return "sample" if self.share < 1 and place_of(post.id) >= self.share else None

    def adjust(self, behind_s: float) -> None:
        """Called every few seconds with how far behind the worker is."""
        now, before_s = self._clock_s(), self._behind_s
        self._behind_s = behind_s
        if behind_s >= self._too_far_s / 2:
            self._near_since_s = now
        is_worse = behind_s > self._too_far_s and behind_s >= before_s
        if is_worse and self.share > self._least and now - self._changed_s >= SHRINK_S:
            self._change(max(self._least, self.share / 2), now)
        elif self.share < 1 and now - max(self._near_since_s, self._changed_s) >= GROW_S:
            self._change(min(1.0, 2 * self.share), now)

    def _change(self, share: float, now_s: float) -> None:
        self.share, self._changed_s = share, now_s
        logger.info("%.1f s behind: %.3g %% of the posts are scored from now on", self._behind_s, 100 * share)


def place_of(post_id: str) -> float:
    """Where in [0, 1) a post stands: it is among a share of the posts that lies above."""
    return int.from_bytes(blake2b(post_id.encode(), digest_size=6, person=b"sample").digest()) / (1 << 48)


class Backlog:
    """Tells how far behind the worker is, at most every TELL_S, and once that it has caught up."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._told_s: float | None = None

    def tell(self, lags: Mapping[int, int | None], behind: Mapping[int, float], share: float) -> None:
        """lags, behind: records and seconds by partition."""
        now, furthest_s = self._clock_s(), max(behind.values(), default=0.0)
        if furthest_s < BEHIND_S:
            if self._told_s is not None and furthest_s < BEHIND_S / 2:
                logger.info("caught up: %.1f s behind", furthest_s)
                self._told_s = None
            return
        if self._told_s is not None and now - self._told_s < TELL_S:
            return
        self._told_s = now
        each = ", ".join(
            f"{partition}: {'?' if (lag := lags.get(partition)) is None else lag} records, {seconds:.0f} s"
            for partition, seconds in sorted(behind.items())
        )
        logger.warning("behind by partition: %s; %.3g %% of the posts are scored", each, 100 * share)
