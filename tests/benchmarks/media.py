"""What a picture costs: each step of making it safe, the same in a decoding process, and fetched from a local server.

The pictures are made up, with the spectrum of photographs; they are named with their size in bytes, on which the cost
of unpacking depends most. Times are medians in milliseconds: `cpu` of this process, `wall` as waited for.

    python -m tests.benchmarks.media --json [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image as Pillow

from ingest.media import sanitize as media
from ingest.media.decoding import Decoder
from ingest.media.fetch import MediaFetcher
from ingest.media.perceptual_hash import pdq
from tests.ingest.hostile_server import HostileServer, answer

SMALL: Final = (1200, 900)
LARGE: Final = (4000, 3000)
SHAPES: Final[dict[str, tuple[tuple[int, int], str, dict[str, Any]]]] = {
    "JPEG 1200x900": (SMALL, "JPEG", {"quality": 85}),
    "JPEG 1200x900 progressive": (SMALL, "JPEG", {"quality": 85, "progressive": True}),
    "JPEG 4000x3000": (LARGE, "JPEG", {"quality": 85}),
    "PNG 1200x900": (SMALL, "PNG", {}),
    "PNG 4000x3000 drawn": (LARGE, "PNG", {"compress_level": 1}),
    "WEBP 1200x900": (SMALL, "WEBP", {"quality": 80}),
    "GIF 1200x900": (SMALL, "GIF", {}),
}


def photo() -> np.ndarray:
    """Noise whose energy falls with frequency as in photographs, SMALL."""
    width, height = SMALL
    chance = np.random.default_rng(7)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    waves = [
        np.fft.irfft2(np.exp(2j * np.pi * chance.random(frequency.shape)) / frequency**1.6, s=(height, width))
        for _ in range(3)
    ]
    luma, blue, red = (wave / wave.std() for wave in waves)
    pixels = np.stack([luma + 0.3 * red, luma, luma + 0.3 * blue], axis=-1) * 50 + 120
    return pixels.clip(0, 255).astype(np.uint8)


def pictures() -> dict[str, bytes]:
    found = {}
    small = photo()
    large = np.tile(small, (4, 4, 1))[: LARGE[1], : LARGE[0]]
    for name, (size, kind, options) in SHAPES.items():
        pixels = small if size == SMALL else large
        if name.endswith("drawn"):
            pixels = pixels // 64 * 64  # even areas; as a photograph it would be larger than is fetched
        out = BytesIO()
        Pillow.fromarray(pixels).save(out, kind, **options)
        found[name] = out.getvalue()
    return found


def cpu_ms(work: Callable[[], object], *, seconds: float) -> float:
    """Median over as many rounds as fit."""
    taken = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1000 * statistics.median(taken)


async def wall_and_cpu_ms(work: Callable[[], Awaitable[object]], *, seconds: float) -> tuple[float, float]:
    """Medians of waiting, and of what it costs this process meanwhile."""
    taken, costs = [], []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        started, cost = time.perf_counter(), time.process_time()
        await work()
        taken.append(time.perf_counter() - started)
        costs.append(time.process_time() - cost)
    return 1000 * statistics.median(taken), 1000 * statistics.median(costs)


def step_costs(data: bytes, *, seconds: float) -> dict[str, float]:
    """Each step of make_safe for a JPEG, by itself."""
    safe = media.make_safe(data).jpeg

    def scaled() -> Pillow.Image:
        picture = Pillow.open(BytesIO(data), formats=("JPEG",))
        wanted = media.SHORT_SIDE_KEPT
        picture.draft("RGB", (wanted * picture.width // picture.height, wanted))
        picture.load()
        return picture

    def luma() -> np.ndarray:
        picture = Pillow.open(BytesIO(safe), formats=("JPEG",))
        picture.draft("L", picture.size)
        return np.asarray(picture)

    small, plane = scaled().copy(), luma()
    steps: dict[str, Callable[[], object]] = {
        "count the scans": lambda: media._scans(data),
        "open, orientation": lambda: media._orientation(Pillow.open(BytesIO(data), formats=("JPEG",))),
        "open, decode at 1/4": scaled,
        "encode": lambda: media._encode(small),
        "open and decode the luma of the result": luma,
        "PDQ": lambda: pdq(plane),
        "sha256": lambda: sha256(safe).digest(),
    }
    return {name: cpu_ms(work, seconds=seconds) for name, work in steps.items()}


async def measure(seconds: float) -> dict[str, Any]:
    found = pictures()
    rows = []
    pages = {f"/{n}": answer(data, f"Content-Type: image/{name.split()[0].lower()}")
             for n, (name, data) in enumerate(found.items())}  # fmt: skip
    async with (
        HostileServer(dict(pages)) as server,
        MediaFetcher(allowed=[server.address], cache_bytes=0) as fetcher,
        Decoder(processes=1) as decoder,
    ):
        for number, (name, data) in enumerate(found.items()):
            link = server.url(f"/{number}")

            async def both(link: str = link) -> None:
                await decoder.make_safe(await fetcher.fetch(link))

            alone = cpu_ms(partial(media.make_safe, data), seconds=seconds)
            decoder_wall, decoder_cpu = await wall_and_cpu_ms(partial(decoder.make_safe, data), seconds=seconds)
            fetch_wall, fetch_cpu = await wall_and_cpu_ms(partial(fetcher.fetch, link), seconds=seconds)
            both_wall, _ = await wall_and_cpu_ms(both, seconds=seconds)
            rows.append({"picture": name, "bytes": len(data), "make_safe_cpu_ms": alone,
                         "decoder_wall_ms": decoder_wall, "decoder_own_cpu_ms": decoder_cpu,
                         "fetch_wall_ms": fetch_wall, "fetch_and_serve_cpu_ms": fetch_cpu,
                         "fetch_and_decode_wall_ms": both_wall})  # fmt: skip
    return {"steps_ms": step_costs(found["JPEG 1200x900"], seconds=seconds), "pictures": rows}


def table(result: dict[str, Any]) -> str:
    lines = [f"{'JPEG 1200x900, step by step':42} cpu ms"]
    lines += [f"{name:42} {cost:6.2f}" for name, cost in result["steps_ms"].items()]
    lines += [
        "",
        f"{'picture':27} {'bytes':>9} {'make_safe':>9} {'Decoder':>8} {'(own cpu)':>9} {'fetch':>6} {'both':>7}",
    ]
    lines += [
        f"{row['picture']:27} {row['bytes']:9,} {row['make_safe_cpu_ms']:9.2f} {row['decoder_wall_ms']:8.2f} "
        f"{row['decoder_own_cpu_ms']:9.2f} {row['fetch_wall_ms']:6.2f} {row['fetch_and_decode_wall_ms']:7.2f}"
        for row in result["pictures"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    arguments = parser.parse_args()
    result = asyncio.run(measure(0.3 if arguments.quick else 2.0))
    print(table(result), file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
