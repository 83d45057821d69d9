"""The pool of decoding processes: limits, replacement, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pillow

import ingest
from ingest.errors import DecoderDown, MalformedMedia
from ingest.media.decoding import MAX_WAITING_BYTES, Decoder
from ingest.media.sandbox import LENGTH_BYTES
from ingest.media.sanitize import MAX_BYTES, make_safe


def saved(picture: Pillow.Image, kind: str = "PNG") -> bytes:
    out = BytesIO()
    picture.save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def endless() -> bytes:
    """Seconds of work."""
    out = BytesIO()
    Pillow.new("RGB", (6500, 6000)).save(out, "WEBP", lossless=True, method=0)
    return out.getvalue()


def children() -> set[int]:
    """Process ids of this process's children, zombies too."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


async def gone(pid: int) -> None:
    """Returns once a process is no more."""
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.01)


async def test_a_picture_comes_out_as_without_a_process(jpeg: bytes) -> None:
    async with Decoder(processes=1) as decoder:
        image = await decoder.make_safe(jpeg, alt="hills \ud83d", width=1200)
    assert image == make_safe(jpeg, alt="hills \ud83d", width=1200)
    assert (image.width, image.height) == (1200, 300)


async def test_many_pictures_at_once_each_get_their_own_answer() -> None:
    shades = range(0, 256, 8)
    async with Decoder(processes=2) as decoder:
        images = await asyncio.gather(
            *(decoder.make_safe(saved(Pillow.new("RGB", (20, 20), (s, s, s)))) for s in shades)
        )
        assert decoder.restarts == 0
    found = [Pillow.open(BytesIO(image.jpeg)).getpixel((10, 10))[0] for image in images]
    assert all(abs(a - b) <= 3 for a, b in zip(found, shades, strict=True))


async def test_a_refusal_names_its_reason_once() -> None:
    async with Decoder(processes=1) as decoder:
        with pytest.raises(MalformedMedia, match=r"^unknown format: starts with b'<svg'"):
            await decoder.make_safe(b"<svg")
        with pytest.raises(MalformedMedia, match="too large"):
            await decoder.make_safe(bytes(MAX_BYTES + 1))


async def test_a_picture_that_takes_too_long_is_refused_and_its_process_replaced(endless: bytes, jpeg: bytes) -> None:
    before = children()
    async with Decoder(processes=1, limit_s=0.2) as decoder:
        (hung,) = children() - before
        started = time.monotonic()
        with pytest.raises(MalformedMedia, match="decoding took too long") as raised:
            await decoder.make_safe(endless)
        assert raised.value.reason == "decoding took too long"
        assert time.monotonic() - started < 2
        assert hung not in children()
        assert (await decoder.make_safe(jpeg)).width == 400
        assert decoder.restarts == 1
    assert children() == before


async def test_a_picture_that_kills_its_process_is_refused_and_the_process_replaced(
    endless: bytes, jpeg: bytes
) -> None:
    before = children()
    async with Decoder(processes=1, limit_s=20) as decoder:
        (pid,) = children() - before
        decoding = asyncio.create_task(decoder.make_safe(endless))
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(MalformedMedia) as raised:
            await decoding
        assert raised.value.reason == "decoder died"
        assert (await decoder.make_safe(jpeg)).width == 400
    assert children() == before


async def test_a_process_killed_while_idle_costs_no_picture(jpeg: bytes) -> None:
    before = children()
    async with Decoder(processes=1) as decoder:
        (pid,) = children() - before
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        assert (await decoder.make_safe(jpeg)).width == 400
    assert children() == before


async def test_more_memory_than_allowed_is_refused_and_the_process_goes_on(endless: bytes, jpeg: bytes) -> None:
    async with Decoder(processes=1, memory_bytes=400 << 20, limit_s=20) as decoder:
        with pytest.raises(MalformedMedia) as raised:
            await decoder.make_safe(endless)
        assert raised.value.reason in ("too much memory", "damaged")
        assert (await decoder.make_safe(jpeg)).width == 400
        assert decoder.restarts == 0


async def test_a_cancelled_picture_costs_no_process_and_gives_its_answer_to_nobody_else(
    endless: bytes, jpeg: bytes
) -> None:
    async with Decoder(processes=1, limit_s=20) as decoder:
        decoding = asyncio.create_task(decoder.make_safe(endless))
        await asyncio.sleep(0.1)
        decoding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decoding
        assert (await decoder.make_safe(jpeg)).width == 400
        assert decoder.restarts == 0


async def test_a_cancelled_picture_may_still_end_its_process(endless: bytes, jpeg: bytes) -> None:
    async with Decoder(processes=1, limit_s=0.3) as decoder:
        decoding = asyncio.create_task(decoder.make_safe(endless))
        await asyncio.sleep(0.1)
        decoding.cancel()
        assert (await decoder.make_safe(jpeg)).width == 400
        assert decoder.restarts == 1


async def test_more_than_can_wait_is_refused_at_once(endless: bytes, jpeg: bytes) -> None:
    heavy = jpeg + bytes(MAX_BYTES - len(jpeg))
    async with Decoder(processes=1, limit_s=0.5) as decoder:
        endless_one = asyncio.create_task(decoder.make_safe(endless))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(decoder.make_safe(heavy) for _ in range(20)), return_exceptions=True)
        refused = [error.reason for error in found if isinstance(error, MalformedMedia)]
        assert refused == ["decoder too busy"] * (20 - MAX_WAITING_BYTES // MAX_BYTES)
        await asyncio.gather(endless_one, return_exceptions=True)
        assert (await decoder.make_safe(jpeg)).width == 400


async def test_closing_in_the_middle_of_work_refuses_it_and_leaves_no_process(endless: bytes) -> None:
    before = children()
    async with Decoder(processes=2, limit_s=20) as decoder:
        tasks = [asyncio.create_task(decoder.make_safe(endless)) for _ in range(4)]
        await asyncio.sleep(0.1)
    assert children() == before
    refusals = await asyncio.gather(*tasks, return_exceptions=True)
    reasons = [refusal.reason for refusal in refusals if isinstance(refusal, MalformedMedia)]
    assert sorted(reasons) == ["decoder closed", "decoder closed", "decoder died", "decoder died"]


async def test_a_process_ends_when_its_parent_no_longer_speaks(jpeg: bytes) -> None:
    before = children()
    async with Decoder(processes=1) as decoder:
        (pid,) = children() - before
        process = decoder._workers[0]._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 5)
        assert pid not in children()


async def test_a_process_that_hangs_ends_by_itself_though_nobody_waits(endless: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from ingest.media.sandbox import main; main(memory_bytes=1 << 30, limit_s=0.2)",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, cwd=Path(ingest.__path__[0]).parent,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(len(endless).to_bytes(LENGTH_BYTES) + endless)
    assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGALRM
    process.stdin.close()


async def test_no_secret_of_the_environment_reaches_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODSTREAM_X_TOKEN", "hush")
    before = children()
    async with Decoder(processes=1):
        (pid,) = children() - before
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_decoder_that_cannot_start_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr("sys.executable", "/bin/true")
    with pytest.raises(DecoderDown, match="does not start"):
        async with Decoder():
            pass
    assert children() == before
