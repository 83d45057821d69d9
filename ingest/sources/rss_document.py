"""A feed's document (RSS, Atom, RDF) → its entries, through feedparser.

feedparser reads broken XML too, but by a parser that takes minutes for 300 KB of "<a <a <a": what is not plainly well
formed is therefore read in a process of its own, with a limit on its time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from io import BytesIO
from math import isfinite
from typing import Any, Final, NamedTuple
from xml.parsers import expat

import feedparser

from ingest.sources.patient_http import TryAgain

LIMIT_S: Final = 10.0
MAX_DEPTH: Final = 64
_WELL_FORMED_TYPE: Final = "application/xml"
"""With this one the document itself says what its encoding is, as it did when it was found well formed."""
_PERIODS_S: Final = {"hourly": 3600, "daily": 86400, "weekly": 604_800, "monthly": 2_592_000, "yearly": 31_536_000}
_NO_FEED: Final = "an answer that is no feed"


class Document(NamedTuple):
    """A parsed feed. is_broken: its XML is, and entries may be missing; pace_s: how often it says it changes."""

    feed: Any
    entries: list[Any]
    is_broken: bool
    pace_s: float | None


async def read_document(body: bytes, *, url: str, content_type: str, limit_s: float = LIMIT_S) -> Document:
    """Raises TryAgain for what is no feed, or takes too long."""
    if is_well_formed(body):
        return await asyncio.to_thread(parse, body, url=url, content_type=_WELL_FORMED_TYPE)
    return await _parse_apart(body, url=url, content_type=content_type, limit_s=limit_s)


def is_well_formed(body: bytes) -> bool:
    """Whether the strict parser alone will read it: no entities of its own, no wide encoding, no depth."""
    if b"<!DOCTYPE" in body or b"\0" in body:
        return False
    depth = 0

    def start(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise expat.ExpatError

    def end(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate(namespace_separator=" ")  # so that prefixes nobody declared are errors
    parser.StartElementHandler, parser.EndElementHandler = start, end
    with suppress(expat.ExpatError):
        parser.Parse(body, True)
        return True
    return False


def parse(body: bytes, *, url: str, content_type: str) -> Document:
    """Blocking. Raises TryAgain for what is no feed, or one feedparser stumbles over."""
    try:
        parsed = feedparser.parse(
            BytesIO(body),  # bytes that look like an address or a path would be opened
            response_headers={"content-type": content_type, "content-location": url},
            resolve_relative_uris=False,  # both parse the HTML of every entry, which is done later for new ones
            sanitize_html=False,
        )
    except Exception as error:  # feedparser raises anything on odd input
        raise TryAgain(f"a feed that feedparser cannot read ({type(error).__name__})") from error
    if not parsed.get("version") and not parsed.entries:
        raise TryAgain(_NO_FEED)
    return Document(parsed.feed, parsed.entries, bool(parsed.bozo), _pace_s(parsed.feed))


def _pace_s(feed: Any) -> float | None:
    """Of <ttl>, in minutes, and sy:updatePeriod / sy:updateFrequency the slower one."""
    told = []
    with suppress(ValueError, TypeError, KeyError):
        told.append(float(feed["ttl"]) * 60)
    with suppress(ValueError, TypeError, KeyError, ZeroDivisionError):
        told.append(_PERIODS_S[feed["sy_updateperiod"].strip()] / float(feed.get("sy_updatefrequency", 1)))
    return max(filter(isfinite, told), default=None)  # NaN would upset the event loop's timers


async def _parse_apart(body: bytes, *, url: str, content_type: str, limit_s: float) -> Document:
    program = f"import sys; sys.path[:] = {sys.path!r}; from ingest.sources.rss_document import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},  # no secret is in it
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            head = json.dumps({"url": url, "content_type": content_type}).encode()
            answer, _ = await process.communicate(head + b"\n" + body)
        feed, entries, pace_s = json.loads(answer)
        return Document(
            feedparser.FeedParserDict(feed), [feedparser.FeedParserDict(entry) for entry in entries], True, pace_s
        )
    except TimeoutError:
        raise TryAgain(f"broken XML that takes more than {limit_s:.0f} s to read") from None
    except ValueError:
        raise TryAgain(_NO_FEED) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """In the process apart: head and document in, entries as JSON out; nothing for what is no feed."""
    head = json.loads(sys.stdin.buffer.readline())
    with suppress(TryAgain):
        document = parse(sys.stdin.buffer.read(), **head)
        sys.stdout.write(json.dumps((document.feed, document.entries, document.pace_s)))
