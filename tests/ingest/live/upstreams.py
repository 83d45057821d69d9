"""Every protocol the conformance suite runs: one adapter class each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.ingest.live.bluesky_upstreams import JetstreamV1, JetstreamV1Compressed, JetstreamV2Compressed
from tests.ingest.live.mastodon_upstream import MastodonUpstream
from tests.ingest.live.reddit_upstream import RedditUpstream
from tests.ingest.live.rss_upstream import RssUpstream
from tests.ingest.live.upstream import Upstream
from tests.ingest.live.x_server import XUpstream

UPSTREAMS: Final[tuple[Callable[[], Upstream], ...]] = (
    JetstreamV1,
    JetstreamV1Compressed,
    JetstreamV2Compressed,
    XUpstream,
    MastodonUpstream,
    RedditUpstream,
    RssUpstream,
)
