"""Examples → scores: each encoder runs once per batch, each picture once at all, and only what a post has is run."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec.structs import replace
from tokenizers import Encoding

from inference_worker.batcher import Lane
from inference_worker.contract import EMBEDDING_SIZE, Distribution
from inference_worker.errors import WorkerError
from inference_worker.languages import Languages
from inference_worker.preprocess import EncodedImage, Example, Preprocessor, text_of
from ingest.contract import Post

logger = logging.getLogger(__name__)


class Fusion(NamedTuple):
    """logits (B, C) of a post, caption_logits (B, C) of its text beside the picture.

    text_map (B, T), image_map (B, M): weights of the private features.
    """

    logits: np.ndarray
    caption_logits: np.ndarray
    text_map: np.ndarray
    image_map: np.ndarray


class Engine(Protocol):
    """What runs the three graphs; shapes as in `engines/onnx.py`.

    max_padding: share of a batch's tokens that may be padding before two batches are cheaper than one.
    concurrency: batches worth giving it at a time, each from a thread of its own.
    """

    name: str
    max_padding: float
    concurrency: int

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def encode_image(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def fuse(self, text_features: np.ndarray, attention_mask: np.ndarray, image_features: np.ndarray) -> Fusion: ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """Per kind of answer: softmax temperature, and the confidence under which to abstain.

    Kinds: `text` (a post without a picture), `caption` (the text of one with a picture), `image`, `both`.
    """

    temperature: dict[str, float]
    abstain_below: dict[str, float]


class Scores(msgspec.Struct, frozen=True):
    """What the model says of one post; distributions are calibrated and in the order of `contract.LABELS`.

    token_map: (start, end, weight 0-255) per token; image_map: rows x columns weights 0-255 of the strongest image;
    embedding: see `contract.Prediction`.
    """

    fused: Distribution
    text: Distribution | None
    image: Distribution | None
    confidence: float
    abstained: bool
    token_map: tuple[tuple[int, int, int], ...] = ()
    image_map: bytes = b""
    strongest_image: int = 0
    embedding: bytes = b""


class ImageFeatures(NamedTuple):
    """features: (M, D) float32; logits: (C,) float32."""

    features: np.ndarray
    logits: np.ndarray


class ImageCache:
    """The features of the last `capacity` distinct pictures by sha256: memes repeat. Safe between threads."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[bytes, ImageFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, sha256: bytes) -> bool:
        with self._lock:
            return sha256 in self._entries

    def get(self, sha256: bytes) -> ImageFeatures | None:
        with self._lock:
            entry = self._entries.get(sha256)
            if entry is None:
                self.misses += 1
            else:
                self.hits += 1
                self._entries.move_to_end(sha256)
            return entry

    def put(self, sha256: bytes, entry: ImageFeatures) -> None:
        with self._lock:
            self._entries[sha256] = entry
            self._entries.move_to_end(sha256)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def drop(self, sha256: bytes) -> None:
        with self._lock:
            self._entries.pop(sha256, None)


class Predictor:
    """A loaded artifact, ready to score. `prepare` is safe in any thread, `predict` in `concurrency` at a time.

    label_order[i] is the artifact's index of `contract.LABELS[i]`; grid is (rows, columns) of the image map.
    golden_deviation: share of the tolerance that the golden rows needed on load, None if they were not replayed.
    proofs: a golden row of each lane, which can be scored if anything can.
    """

    def __init__(
        self,
        *,
        name: str,
        engine: Engine,
        preprocessor: Preprocessor,
        calibration: Calibration,
        label_order: Sequence[int],
        languages: Languages,
        cached_images: int = 512,
    ) -> None:
        self.name = name
        self.languages = languages
        self.engine = engine
        self.preprocessor = preprocessor
        self.calibration = calibration
        self.label_order = np.asarray(label_order)
        self.images = ImageCache(cached_images)
        self.golden_deviation: float | None = None
        self.proofs: dict[Lane, Example] = {}

    @property
    def max_padding(self) -> float:
        return self.engine.max_padding

    @property
    def concurrency(self) -> int:
        return self.engine.concurrency

    @property
    def grid(self) -> tuple[int, int]:
        return self.preprocessor.image.grid

    def is_foreign(self, lang: str | None) -> bool:
        """See Languages.is_foreign."""
        return self.languages.is_foreign(lang)

    def encode(self, posts: Sequence[Post]) -> list[Encoding]:
        """See Preprocessor.encode."""
        return self.preprocessor.encode(posts)

    def prepare(self, post: Post, encoding: Encoding | None = None) -> Example:
        """Post → example (see Preprocessor.prepare) and its language; pictures already cached are not decoded."""
        cached = {image.sha256 for image in post.images if image.sha256 in self.images}
        example = self.preprocessor.prepare(post, encoding, is_cached=cached)
        return replace(example, language=self.languages.of(text_of(post), post.lang))

    def predict(self, examples: Sequence[Example]) -> list[Scores]:
        """Scores examples of one lane; row i depends on example i alone.

        Raises WorkerError if an output is not finite.
        """
        lane = examples[0].lane
        if any(example.lane != lane for example in examples):
            raise ValueError("examples of one batch must be of one lane")
        if lane == "text":
            mask, text_features, text_logits = self._encode_texts(examples)
            text = self._distributions(text_logits, "text")
            embeddings = _embeddings(_mean_text(text_features, mask))
            return [
                self._scores("text", text[row], text=text[row], embedding=embeddings[row])
                for row in range(len(examples))
            ]
        pictures = self._encode_images(examples)
        image_logits = np.stack([np.mean([one.logits for one in of_post], axis=0) for of_post in pictures])
        image = self._distributions(image_logits, "image")
        strongest = [int(np.argmax([one.logits.max() for one in of_post])) for of_post in pictures]
        image_features = np.stack([np.mean([one.features for one in of_post], axis=0) for of_post in pictures])
        if lane == "image":
            embeddings = _embeddings(image_features.mean(axis=1))
            return [
                self._scores(
                    "image",
                    image[row],
                    image=image[row],
                    strongest_image=example.images[strongest[row]].index,
                    embedding=embeddings[row],
                )
                for row, example in enumerate(examples)
            ]
        mask, text_features, _ = self._encode_texts(examples)
        embeddings = _embeddings(_mean_text(text_features, mask) + image_features.mean(axis=1))
        fusion = self.engine.fuse(text_features, mask, image_features)
        fused = self._distributions(fusion.logits, "both")
        caption = self._distributions(fusion.caption_logits, "caption")
        return [
            self._scores(
                "both",
                fused[row],
                text=caption[row],
                image=image[row],
                token_map=_token_map(example, fusion.text_map[row]),
                image_map=_to_bytes(fusion.image_map[row]),
                strongest_image=example.images[strongest[row]].index,
                embedding=embeddings[row],
            )
            for row, example in enumerate(examples)
        ]

    def works(self, lane: Lane) -> bool:
        """The engine still scores what it once did, pictures anew."""
        if (proof := self.proofs.get(lane)) is None:
            return True
        for image in proof.images:
            self.images.drop(image.source.sha256)
        try:
            self.predict([proof])
        except Exception:  # whatever it is that ails it
            logger.exception("the engine fails at its own golden row")
            return False
        return True

    def _encode_texts(self, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """→ attention_mask (B, T), text_features (B, T, D), text_logits (B, C)."""
        longest = max(example.tokens for example in examples)
        input_ids = np.full((len(examples), longest), self.preprocessor.text.pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, example in enumerate(examples):
            assert example.text is not None  # the lane says so
            input_ids[row, : example.tokens] = example.text.input_ids
            attention_mask[row, : example.tokens] = 1
        return attention_mask, *self.engine.encode_text(input_ids, attention_mask)

    def _encode_images(self, examples: Sequence[Example]) -> list[list[ImageFeatures]]:
        """Features of each example's pictures; each distinct picture not cached is encoded once."""
        wanted = {image.source.sha256: image for example in examples for image in example.images}
        known = {sha256: entry for sha256 in wanted if (entry := self.images.get(sha256)) is not None}
        missing = [image for sha256, image in wanted.items() if sha256 not in known]
        if missing:
            pixel_values = self.preprocessor.normalise([self._pixels(image) for image in missing])
            features, logits = self.engine.encode_image(pixel_values)
            for row, image in enumerate(missing):
                entry = ImageFeatures(features[row].copy(), logits[row].copy())
                known[image.source.sha256] = entry
                if np.isfinite(entry.features).all() and np.isfinite(entry.logits).all():  # a fault is not to last
                    self.images.put(image.source.sha256, entry)
        return [[known[image.source.sha256] for image in example.images] for example in examples]

    def _pixels(self, image: EncodedImage) -> np.ndarray:
        # not decoded because it was cached, and evicted since
        return image.pixels if image.pixels is not None else self.preprocessor.decode(image.source.jpeg)

    def _distributions(self, logits: np.ndarray, kind: str) -> list[Distribution]:
        """(B, C) logits in the artifact's order → calibrated distributions in the order of `contract.LABELS`."""
        if not np.isfinite(logits).all():
            raise WorkerError(f"the {kind} logits are not finite: {logits.tolist()}")
        scaled = logits[:, self.label_order].astype(np.float64) / self.calibration.temperature[kind]
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return [(row[0], row[1], row[2]) for row in probabilities.tolist()]

    def _scores(
        self,
        kind: str,
        fused: Distribution,
        *,
        text: Distribution | None = None,
        image: Distribution | None = None,
        token_map: tuple[tuple[int, int, int], ...] = (),
        image_map: bytes = b"",
        strongest_image: int = 0,
        embedding: bytes = b"",
    ) -> Scores:
        confidence = max(fused)
        return Scores(
            fused=fused,
            text=text,
            image=image,
            confidence=confidence,
            abstained=confidence < self.calibration.abstain_below[kind],
            token_map=token_map,
            image_map=image_map,
            strongest_image=strongest_image,
            embedding=embedding,
        )


def _mean_text(features: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(B, T, D) and (B, T) → (B, D), over the positions whose mask is 1."""
    weights = mask[..., None].astype(features.dtype)
    return np.asarray((features * weights).sum(axis=1) / weights.sum(axis=1))


@lru_cache
def _projection(width: int) -> np.ndarray:
    """(width, EMBEDDING_SIZE): a random projection, the same for ever (Johnson and Lindenstrauss, 1984)."""
    return np.random.default_rng(width).standard_normal((width, EMBEDDING_SIZE)).astype(np.float32)


def _embeddings(features: np.ndarray) -> list[bytes]:
    """(B, D) → a direction each, as EMBEDDING_SIZE signed bytes of length 127 in all; zeros where there is none."""
    # Row by row: a product of many rows may round otherwise than that of one, and a post owes nothing to its mates.
    projected = np.stack([row @ _projection(features.shape[1]) for row in features])
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    if not np.isfinite(length).all():
        raise WorkerError("the features are not finite")
    scaled = np.divide(127 * projected, length, out=np.zeros_like(projected), where=length > 0)
    return [row.tobytes() for row in np.rint(scaled).astype(np.int8)]


def _to_bytes(weights: np.ndarray) -> bytes:
    """Weights → 0-255 each, the largest 255."""
    largest = float(weights.max(initial=0.0))
    if not np.isfinite(largest):
        raise WorkerError("the weights of a map are not finite")
    return np.round(weights * (255 / largest) if largest > 0 else weights * 0).astype(np.uint8).tobytes()


def _token_map(example: Example, weights: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    assert example.text is not None
    spans = example.text.spans
    scaled = _to_bytes(weights[: len(spans)])
    return tuple((start, end, scaled[at]) for at, (start, end) in enumerate(spans) if end > start)
