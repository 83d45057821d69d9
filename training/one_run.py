"""One run of the bench: a configuration, a corpus in frozen states, a seed → figures on validation and, once, test."""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from training.batches import shuffled_batches
from training.config import RunConfig
from training.datasets.example import Corpus, Example, labels_of
from training.feature_cache import FeatureCache
from training.features import Features
from training.loop import busy_seconds, fit, parameter_groups
from training.metrics import FloatArray, IntArray, classification_report, softmax
from training.systems import FLOORS, build_floor, build_model
from training.tuning import tuned

log = logging.getLogger(__name__)

BOOTSTRAPS = 1000
EVALUATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A corpus with the states of its posts; is_twin: of each test post, whether training holds a near twin of it;
    encoders: what made the states, told with every run."""

    name: str
    split: str
    corpus: Corpus
    cache: FeatureCache
    is_twin: NDArray[np.bool_]
    encoders: str = "small"


def run_once(
    config: RunConfig, bench: Bench, *, seed: int, folder: Path | None = None, log_file: Path | None = None
) -> dict[str, Any]:
    """Train, choose the epoch on validation, open the test split once; the line that goes into the results.

    folder: where checkpoints go; a temporary one by default. log_file: a CSV of the epochs, as they are made.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began = busy_seconds(device)
    if config.system in FLOORS:
        found = _run_floor(config, bench)
    elif folder is not None:
        found = _run_model(config, bench, seed, folder, log_file, device)
    else:
        with tempfile.TemporaryDirectory(prefix="moodstream-bench-") as temporary:
            found = _run_model(config, bench, seed, Path(temporary), log_file, device)
    return {
        "key": config.key(bench.name, bench.split, seed),
        "corpus": bench.name,
        "split": bench.split,
        "seed": seed,
        "config": asdict(config),
        "encoders": bench.encoders,
        **found,
        "seconds": round(busy_seconds(device) - began, 1),
    }


def _run_floor(config: RunConfig, bench: Bench) -> dict[str, Any]:
    splits, classes = bench.corpus.splits, len(bench.corpus.classes)
    model = build_floor(config)
    model.fit([example.text or "" for example in splits["train"]], labels_of(splits["train"]).tolist())
    certain = {
        name: np.eye(classes)[model.predict([example.text or "" for example in splits[name]])]
        for name in ("validation", "test")
    }
    return {"parameters": None, "epochs": 1, "seconds_per_epoch": None, **_judged(bench, certain)}


def _run_model(
    config: RunConfig, bench: Bench, seed: int, folder: Path, log_file: Path | None, device: torch.device
) -> dict[str, Any]:
    torch.manual_seed(seed)
    classes = len(bench.corpus.classes)
    model = build_model(
        config,
        text_width=bench.cache.text_width,
        image_width=bench.cache.image_width,
        classes=classes,
        shares=bench.corpus.shares(),
    )
    model = tuned(model, config).to(device)
    layers = int(model.text_layers_needed)  # type: ignore[arg-type]
    needs_augmented = bool(getattr(model, "use_dbcl", False))
    train, validation = bench.corpus.splits["train"], bench.corpus.splits["validation"]

    def batches(generator: np.random.Generator) -> list[list[Example]]:
        drawn = over_sampled(train, classes, generator) if config.imbalance == "over-sampling" else train
        return shuffled_batches(drawn, batch_size=config.batch_size, generator=generator, length=bench.cache.length)

    def epoch_batches(generator: np.random.Generator) -> Iterable[Features]:
        for batch in batches(generator):
            if len(batch) > 1:  # contrastive losses and batch norm have nothing to say of one post
                yield bench.cache.batch(
                    batch, generator, layers=layers, with_augmented=needs_augmented, with_views=config.views > 1
                )

    def validate(trained: nn.Module) -> dict[str, float]:
        return classification_report(labels_of(validation), score(trained, bench.cache, validation, layers))

    best = fit(
        model,
        optimizer=torch.optim.AdamW(
            parameter_groups(
                model,
                learning_rates={"layers.": config.encoder_learning_rate} if config.tuned_layers else {},
                default=config.learning_rate,
                weight_decay=config.weight_decay,
            )
        ),
        epoch_batches=epoch_batches,
        steps_per_epoch=len(batches(np.random.default_rng([seed, 0]))),
        epochs=config.epochs,
        seed=seed,
        validate=validate,
        select=config.select,
        run=folder,
        config={"settings": asdict(config), "corpus": bench.name, "split": bench.split, "seed": seed},
        warmup=config.warmup,
        schedule=config.schedule,
        max_norm=config.max_norm,
        precision=config.precision,
        patience=config.patience,
        log_file=log_file,
    )
    model.load_state_dict(torch.load(folder / "best.pt", map_location=device, weights_only=True)["model"])
    model.eval()
    probabilities = {
        name: score(model, bench.cache, bench.corpus.splits[name], layers) for name in ("validation", "test")
    }
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": int(best["epoch"]) + 1,
        "seconds_per_epoch": round(best["seconds"], 2),
        **_judged(bench, probabilities),
    }


def score(model: nn.Module, cache: FeatureCache, examples: Sequence[Example], layers: int = 1) -> FloatArray:
    """Probabilities (N, C) in the examples' own order; batches are made of posts of like length."""
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda row: cache.length(examples[row]))
    logits = []
    for start in range(0, len(order), EVALUATION_BATCH):
        chosen = [examples[row] for row in order[start : start + EVALUATION_BATCH]]
        features = cache.batch(chosen, layers=layers).to(device)
        with torch.inference_mode():
            output = model(features.text_states, features.attention_mask, features.image_states)
        logits.append(output.logits.float().cpu().numpy())
    back = np.argsort(order)
    return softmax(np.concatenate(logits)[back])


def over_sampled(examples: Sequence[Example], classes: int, generator: np.random.Generator) -> list[Example]:
    """Every class as often as the most frequent one; the rare ones' posts drawn with replacement beside themselves."""
    by_class = [[example for example in examples if example.label == label] for label in range(classes)]
    most = max(map(len, by_class))
    drawn = list(examples)
    for of_class in by_class:
        if of_class:
            drawn += [of_class[at] for at in generator.integers(len(of_class), size=most - len(of_class))]
    return drawn


def _judged(bench: Bench, probabilities: dict[str, FloatArray]) -> dict[str, Any]:
    labels = {name: labels_of(bench.corpus.splits[name]) for name in probabilities}
    test, test_labels = probabilities["test"], labels["test"]
    kept = ~bench.is_twin
    return {
        "validation": classification_report(labels["validation"], probabilities["validation"]),
        "test": _test_report(test_labels, test),
        "test_without_twins": _test_report(test_labels[kept], test[kept]),
        # One digit a post, for ensembles and paired tests; the posts themselves stay where they are.
        "predicted": "".join(map(str, test.argmax(-1))),
        "right": "".join("01"[is_right] for is_right in (test.argmax(-1) == test_labels).tolist()),
    }


def _test_report(labels: IntArray, probabilities: FloatArray) -> dict[str, Any]:
    predicted = probabilities.argmax(-1)
    classes = list(range(probabilities.shape[-1]))
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    return {
        **classification_report(labels, probabilities),
        "macro_precision": float(precision.mean()),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "confusion": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "intervals": _intervals(labels, probabilities),
    }


def _intervals(labels: IntArray, probabilities: FloatArray) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap over the posts."""
    classes = probabilities.shape[-1]
    cells = labels * classes + probabilities.argmax(-1)
    rows = np.random.default_rng(0).integers(len(labels), size=(BOOTSTRAPS, len(labels)))
    confusions = np.stack([np.bincount(cells[drawn], minlength=classes**2) for drawn in rows])
    confusions = confusions.reshape(BOOTSTRAPS, classes, classes)
    right = np.diagonal(confusions, axis1=1, axis2=2)
    support, called = confusions.sum(2), confusions.sum(1)
    f1 = 2 * right / np.maximum(support + called, 1)
    measures = {
        "accuracy": right.sum(1) / len(labels),
        "weighted_f1": (f1 * support).sum(1) / len(labels),
        "macro_f1": f1.mean(1),
    }
    return {name: tuple(np.percentile(drawn, [2.5, 97.5]).tolist()) for name, drawn in measures.items()}
