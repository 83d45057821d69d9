"""Batch compliance: X is asked now and then which of the posts passed on are gone, as any app may.

The stream of an ordinary app tells of no deletion, yet X wants them followed within a day. So the ids of the posts are
kept, a file per UTC day, and uploaded as a job; what comes back are those deleted, protected or suspended since.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import msgspec

from ingest.contract import Deletion
from ingest.errors import SourceUnreachable
from ingest.sources.live import UNREADABLE
from ingest.sources.times import parse_time
from ingest.sources.x_api import Retries, Sleep, TryAgain, call, first_problem, sentence
from ingest.sources.x_posts import SOURCE

PATH: Final = "/2/compliance/jobs"
EVERY_S: Final = 6 * 3600.0
"""Four times within the day X gives; a job may take a while."""
POLL_EVERY_S: Final = 30.0
STORAGE_TIMEOUT_S: Final = 120.0
KEPT_DAYS: Final = 30
"""Days whose posts are asked for."""
NOT_GONE: Final = frozenset(("scrub_geo",))
"""The post stays, without a place; places are not kept here."""


class PostLog:
    """Ids of the posts passed on: lines of a version's id and the first version's, by which the post goes here."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder, self._now = folder, now

    def add(self, version: str, first: str) -> None:
        """Raises SourceUnreachable: what is not kept could not be deleted later."""
        with self._told():
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{self._now():%Y-%m-%d}.txt").open("a", encoding="ascii") as file:
                file.write(f"\n{version} {first}")  # newline first: it ends what a full disk cut short

    def read(self) -> dict[str, str]:
        """All versions kept → their first; files past their time are deleted. Raises SourceUnreachable."""
        oldest = f"{self._now() - timedelta(days=KEPT_DAYS):%Y-%m-%d}.txt"
        first_of: dict[str, str] = {}
        with self._told():
            for file in sorted(self._folder.glob("????-??-??.txt")):
                if file.name < oldest:
                    file.unlink()
                    continue
                for line in file.read_text(encoding="ascii", errors="replace").splitlines():
                    version, _, first = line.partition(" ")
                    if version and first:  # a full disk leaves a part of a line
                        first_of[version] = first
        return first_of

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceUnreachable(
                f"cannot keep the ids of X's posts in {self._folder} ({error.strerror or type(error).__name__}): "
                "make room there or let MOODSTREAM_STATE name another folder"
            ) from error


class _Job(msgspec.Struct):
    id: str
    status: str = "created"
    upload_url: str = ""
    download_url: str = ""


class _Result(msgspec.Struct):
    id: str
    action: str = "delete"
    reason: str = ""
    redacted_at: str | None = None


async def deletions(
    client: httpx.AsyncClient, log: PostLog, *, retries: Retries, sleep: Sleep
) -> AsyncGenerator[Deletion, None]:
    """Deletions of posts in the log, each told once a run, without end."""
    told: set[str] = set()
    while True:
        first_of = await asyncio.to_thread(log.read)
        asked = {version: first for version, first in first_of.items() if first not in told}
        results = await retries.persist(lambda: _ask(client, asked, sleep)) if asked else ()  # noqa: B023
        for result in results:
            first = asked.get(result.id)
            if first is not None and first not in told and result.reason not in NOT_GONE:
                told.add(first)
                yield _deletion(first, result)
        await sleep(EVERY_S)


async def _ask(client: httpx.AsyncClient, versions: Mapping[str, str], sleep: Sleep) -> list[_Result]:
    """One job, from its making to its results."""
    job = await _job(client, "POST", PATH, {"type": "tweets", "name": "moodstream"})
    await _storage(client, "PUT", job.upload_url, "\n".join(versions).encode())
    download_url = job.download_url
    while job.status != "complete":
        if job.status in ("failed", "expired"):
            raise TryAgain(f"compliance job {job.status}", "http")
        await sleep(POLL_EVERY_S)
        job = await _job(client, "GET", f"{PATH}/{job.id}")
    return list(_results(await _storage(client, "GET", job.download_url or download_url)))


async def _job(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> _Job:
    # An app may have one job at a time: a refusal passes when that is done, and never ends the stream.
    answer = await call(client, method, path, params={}, body=body, tolerated=(400,))
    try:
        return msgspec.convert(answer.get("data"), _Job)
    except msgspec.ValidationError as error:
        raise TryAgain(f"no compliance job: {sentence(first_problem(answer))}", "http") from error


async def _storage(client: httpx.AsyncClient, method: str, url: str, content: bytes | None = None) -> bytes:
    """Files lie on another host, under addresses that are secrets themselves: without the token, never in a message."""
    if not url.startswith(f"{client.base_url.scheme}://"):
        raise TryAgain("a compliance job whose files are not at https", "http")
    headers = {} if content is None else {"Content-Type": "text/plain"}
    try:
        async with httpx.AsyncClient(timeout=STORAGE_TIMEOUT_S) as storage:
            response = await storage.request(method, url, content=content, headers=headers)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise TryAgain(f"files of a compliance job: {type(error).__name__}", "network") from None
    if not response.is_success:
        raise TryAgain(f"files of a compliance job: HTTP {response.status_code}", "http")
    return response.content


def _results(data: bytes) -> Iterator[_Result]:
    for line in data.splitlines():
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=_Result)
            except UNREADABLE as error:
                raise TryAgain("results of a compliance job that cannot be read", "http") from error


def _deletion(first: str, result: _Result) -> Deletion:
    now = datetime.now(UTC)
    told = parse_time(result.redacted_at) if result.redacted_at else None
    deleted_at = now if told is None else told.replace(tzinfo=told.tzinfo or UTC)
    return Deletion(source=SOURCE, post_id=f"{SOURCE}:{first}", deleted_at=deleted_at, ingested_at=now)
