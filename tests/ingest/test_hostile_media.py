"""Every picture of the corpus is made safe or refused for the reason listed, in bounded time, here and in a Decoder."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from io import BytesIO
from typing import Final

import pytest
from PIL import Image as Pillow

from ingest.contract import Image
from ingest.errors import MalformedMedia
from ingest.media.decoding import Decoder
from ingest.media.sanitize import LONG_SIDE, SHORT_SIDE, make_safe
from tests.ingest.hostile_pictures import MARK, PICTURES, SAFE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells what is wrong with metadata

CPU_LIMIT_S: Final = 10.0


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(PICTURES) >= 120


def check_safe(image: Image) -> None:
    with Pillow.open(BytesIO(image.jpeg)) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert min(picture.size) <= SHORT_SIDE and max(picture.size) <= LONG_SIDE
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert image.jpeg.endswith(b"\xff\xd9") and MARK not in image.jpeg
    assert image.sha256 == sha256(image.jpeg).digest()
    assert len(image.phash) == 32


@pytest.mark.parametrize("name", PICTURES)
def test_a_hostile_picture_is_made_safe_or_refused(name: str) -> None:
    build, expected = PICTURES[name]
    data = build()
    started = time.process_time()
    try:
        image = make_safe(data)
    except MalformedMedia as error:
        assert error.reason == expected, str(error)
    else:
        assert expected == SAFE
        check_safe(image)
    assert time.process_time() - started < CPU_LIMIT_S


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_decoder_comes_to_the_same_result_and_survives_them_all() -> None:
    async with Decoder(processes=2, limit_s=20) as decoder:

        async def outcome(name: str) -> str:
            try:
                check_safe(await decoder.make_safe(PICTURES[name][0]()))
            except MalformedMedia as error:
                return error.reason
            return SAFE

        found = await asyncio.gather(*(outcome(name) for name in PICTURES))
        assert dict(zip(PICTURES, found, strict=True)) == {name: expected for name, (_, expected) in PICTURES.items()}
        assert decoder.restarts == 0
