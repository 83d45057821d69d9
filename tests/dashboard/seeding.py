"""Posts made up here, written into a real store by the worker's own writer."""

from __future__ import annotations

import math
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from deploy.servers import free_port
from inference_worker.contract import Distribution, Prediction, WorkerState, most_likely
from inference_worker.settings import Settings as WorkerSettings
from inference_worker.store import Failed, Position, Scored, Store

NOW = datetime(2026, 5, 4, 12, 30, 20, tzinfo=UTC)
TOPICS = ("Line 9 tram", "Bluebird Coffee", "Orbit One phone")
PHRASES = {
    "positive": (
        "Line 9 is on time for once, what a morning",
        "This flat white made my week",
        "Battery lasts two days now",
    ),
    "neutral": (
        "Line 9 runs every ten minutes on Sundays",
        "Bluebird opens a shop on Mill Street",
        "Orbit One ships in May",
    ),
    "negative": (
        "Forty minutes in the cold and no tram",
        "Lukewarm coffee, and they forgot the cup",
        "Screen cracked in my pocket",
    ),
}

Seed = Callable[..., None]


class Server:
    """A store that can be stopped and started again on the same port; it forgets all when it stops."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary, self.folder, self.port = binary, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([self.binary, *arguments], stdout=subprocess.DEVNULL)
        client = Redis.from_url(self.url)
        wait_until(lambda: _answers(client), "the store answers")
        client.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except OSError:
        return False
    except Exception as error:
        if type(error).__name__ == "ConnectionError":
            return False
        raise


async def write_results(
    url: str,
    predictions: Sequence[Prediction],
    namespace: str = "live",
    *,
    kind: str = "live",
    source: str = "sample",
    shards: int = 2,
    dead_letters: int = 0,
    duplicates: int = 0,
    worker: WorkerState | None = None,
    first_offset: int = 0,
) -> None:
    """`duplicates`: so many of the first predictions come again, at other positions."""
    settings = WorkerSettings(namespace=namespace, redis=url, kind=kind, source=source, shards=shards)
    async with AsyncRedis.from_url(url) as client:
        store = Store(client, settings, model="mdse-small")
        await store.open()
        again = list(predictions[:duplicates])
        writes: list[Scored | Failed] = [
            Scored(
                prediction=prediction,
                position=Position(0, first_offset + offset, 1),
                run="run-1",
                thumbnails=tuple(drawing(prediction.id) for _ in range(prediction.images)),
            )
            for offset, prediction in enumerate([*predictions, *again])
        ]
        writes += [
            Failed(error="not a Moodstream record", key=None, size=12, position=Position(1, offset, 1), run="run-1")
            for offset in range(dead_letters)
        ]
        for start in range(0, len(writes), 500):
            await store.write(writes[start : start + 500])
        if worker is not None:
            await store.publish(worker)


def worker_state(name: str = "worker-1") -> WorkerState:
    return WorkerState(
        name=name,
        model="mdse-small",
        engine="onnx",
        started_at=NOW - timedelta(hours=3),
        updated_at=NOW,
        posts_per_s=41.5,
        latency_p50_ms=180.0,
        latency_p95_ms=420.0,
        latency_p99_ms=900.0,
        lag=7,
        known_pictures=0.25,
    )


def prediction(number: int, created_at: datetime, **chosen: object) -> Prediction:
    """A text post leaning positive, unless chosen otherwise; `fused` sets the distribution and what follows from it."""
    fused: Distribution = chosen.pop("fused", (0.7, 0.2, 0.1))  # type: ignore[assignment]
    fields: dict[str, object] = {
        "id": f"sample:{number}",
        "source": "sample",
        "created_at": created_at,
        "ingested_at": created_at,
        "scored_at": created_at + timedelta(milliseconds=200),
        "predicted": most_likely(fused),
        "probabilities": fused,
        "confidence": max(fused),
        "model": "mdse-small",
        "text": f"post {number}",
        "text_probabilities": fused,
        **chosen,
    }
    return Prediction(**fields)  # type: ignore[arg-type]


def feed(count: int = 900, *, until: datetime = NOW, span: timedelta = timedelta(hours=3)) -> list[Prediction]:
    """Posts on three topics with one visible swing; text only, picture only and both."""
    dice = random.Random(7)
    made = []
    for number in range(count):
        part = number / count
        topic = dice.choices(TOPICS, weights=(5, 3, 2))[0]
        swing = -0.8 if topic == TOPICS[0] and 0.55 < part < 0.8 else 0.25 * math.sin(6 * part) + 0.15
        fused = _distribution(dice, swing)
        label = most_likely(fused)
        has_image, has_text = dice.random() < 0.35, dice.random() < 0.9
        made.append(
            prediction(
                number,
                until - span + part * span,
                fused=fused,
                text=dice.choice(PHRASES[label]) if has_text or not has_image else "",
                text_probabilities=_distribution(dice, swing) if has_text or not has_image else None,
                image_probabilities=_distribution(dice, swing) if has_image else None,
                images=int(has_image),
                alt=("a drawing",) if has_image else (),
                abstained=max(fused) < 0.45,
                topics=(topic,),
                url=f"https://example.org/{number}" if number % 3 else None,
                sensitive=has_image and number % 11 == 0,
                label=label if dice.random() < 0.8 else "neutral",
            )
        )
    return made


def _distribution(dice: random.Random, lean: float) -> Distribution:
    logits = [dice.gauss(1.6 * lean, 0.9), dice.gauss(0.1, 0.6), dice.gauss(-1.6 * lean, 0.9)]
    weights = [math.exp(logit) for logit in logits]
    positive, neutral = (round(weight / sum(weights), 4) for weight in weights[:2])
    return positive, neutral, round(1 - positive - neutral, 4)


def drawing(post_id: str) -> bytes:
    """A JPEG of its own per post."""
    dice = random.Random(post_id)
    image = Image.new("RGB", (340, 256), f"hsl({dice.randrange(360)}, 45%, 78%)")
    pen = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, r = dice.randrange(340), dice.randrange(256), dice.randrange(12, 70)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=f"hsl({dice.randrange(360)}, 50%, {dice.randrange(35, 70)}%)")
    packed = BytesIO()
    image.save(packed, "JPEG", quality=80)
    return packed.getvalue()


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s until {what}")
        time.sleep(0.05)
