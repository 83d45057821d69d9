"""The one training loop. A model brings its loss; a run folder brings everything needed to go on where it stopped."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

log = logging.getLogger(__name__)


Autocast = Callable[[], torch.autocast]
Schedule = Literal["linear", "cosine", "step", "constant"]
Precision = Literal["float32", "bfloat16"]


class Batchlike(Protocol):
    """What the loop asks of a batch: `batches.Batch` of raw posts, or `features.Features` of cached states."""

    @property
    def labels(self) -> Tensor: ...

    def split(self, parts: int) -> list[Self]: ...

    def to(self, device: torch.device) -> Self: ...


def fit(
    model: nn.Module,
    *,
    optimizer: torch.optim.Optimizer,
    epoch_batches: Callable[[np.random.Generator], Iterable[Batchlike]],
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    validate: Callable[[nn.Module], dict[str, float]],
    select: str,
    run: Path,
    config: dict[str, Any],
    warmup: float = 0.06,
    schedule: Schedule = "linear",
    max_norm: float = 1.0,
    workers: int = 1,
    precision: Precision = "float32",
    averaging: float | None = None,
    patience: int | None = None,
    stop_after: int | None = None,
    log_file: Path | None = None,
) -> dict[str, float]:
    """Train for `epochs`, keep the weights with the highest validation `select`, return its validation metrics.

    Every epoch draws its order, crops and dropout from (seed, epoch) alone, so a run resumed after any epoch makes
    the very steps the unbroken run would have made. `run` holds last.pt (to resume), best.pt and history.jsonl.

    `workers` threads each take a share of every batch. On a CPU shared with others this beats as many threads inside
    each operation 3:1, since an operation waits for its slowest thread and a step only once; but threads draw their
    dropout in no fixed order, so only one worker repeats to the bit.

    `averaging` keeps an exponential moving average of the weights with this decay a step, and validates and saves
    that instead: on small, noisily labelled sets it is steadier than any single step's weights. `patience` ends the run
    after so many epochs without a better one. `stop_after` leaves the last epochs, and with them the lowest rates, to
    another call.

    Training runs where the model's parameters are, in `precision` (bfloat16: autocast; weights stay float32). A model
    with a `second_loss` gets a second step on each batch it gives a loss for (SPP-SCL). Interrupted, the last whole
    epoch stands in last.pt, and the same call goes on from there. `log_file` is history.jsonl as CSV, whole after every
    epoch.
    """
    run.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bfloat16")
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, _factor(schedule, steps_per_epoch * epochs, warmup))
    average = _Average(model, averaging) if averaging is not None else None
    first_epoch, best = _resume(run, model, optimizer, rates, average)
    pool = ThreadPoolExecutor(workers)
    for epoch in range(first_epoch, min(epochs, stop_after or epochs)):
        if patience is not None and best is not None and epoch - 1 - best["epoch"] >= patience:
            log.info("no better epoch in %d: stopped", patience)
            break
        torch.manual_seed(seed * 1000 + epoch)
        generator = np.random.default_rng([seed, epoch])
        started = busy_seconds(device)
        model.train()
        losses: list[float] = []
        for given in tqdm(epoch_batches(generator), f"epoch {epoch}", steps_per_epoch, leave=False, disable=None):
            batch = given.to(device)
            optimizer.zero_grad(set_to_none=True)
            loss = _backward(model, batch.split(workers), pool, autocast)
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            _second_step(model, batch, optimizer, max_norm, autocast)
            rates.step()
            if average is not None:
                average.update_parameters(model)
            losses.append(loss)
            if len(losses) % 50 == 0:
                speed = (busy_seconds(device) - started) / len(losses)
                log.info("epoch %d step %d loss %.4f %.2f s/step", epoch, len(losses), np.mean(losses[-50:]), speed)
        judged = (average.module if average is not None else model).eval()
        seconds = busy_seconds(device) - started
        metrics = {"epoch": epoch, "train_loss": float(np.mean(losses)), "seconds": seconds, **validate(judged)}
        log.info("epoch %d %s", epoch, json.dumps({name: round(value, 4) for name, value in metrics.items()}))
        with (run / "history.jsonl").open("a") as history:
            history.write(json.dumps(metrics) + "\n")
        if log_file is not None:
            _write_log(run / "history.jsonl", log_file)
        if best is None or metrics[select] > best[select]:
            best = metrics
            _save(run / "best.pt", {"model": judged.state_dict(), "config": config, "metrics": metrics})
        _save(
            run / "last.pt",
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": rates.state_dict(),
                "average": average.state_dict() if average is not None else None,
                "epoch": epoch + 1,
                "best": best,
                "config": config,
            },
        )
    if best is None:
        raise ValueError(f"{run} made no epoch: epochs is {epochs}")
    return best


class _Average(AveragedModel):
    """Moving average of a model's weights; early on of few steps, so that the starting point is soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"averaging must lie between 0 and 1, got {decay}")

        def average(averaged: Tensor, current: Tensor, steps: Tensor) -> Tensor:
            return averaged.lerp(current, max(1 - decay, 9 / (10 + float(steps))))

        super().__init__(model, avg_fn=average)


def _backward(model: nn.Module, parts: Sequence[Batchlike], pool: ThreadPoolExecutor, autocast: Autocast) -> float:
    """Add every part's share of the batch's gradient; returns the loss of the whole batch."""
    rows = sum(len(part.labels) for part in parts)

    def one(part: Batchlike) -> float:
        with autocast():
            loss: Tensor = model.loss(part) * (len(part.labels) / rows)  # type: ignore[operator]
        loss.backward()
        return float(loss.item())

    return one(parts[0]) if len(parts) == 1 else sum(pool.map(one, parts))


def _second_step(
    model: nn.Module, batch: Batchlike, optimizer: torch.optim.Optimizer, max_norm: float, autocast: Autocast
) -> None:
    second_loss = getattr(model, "second_loss", None)
    if second_loss is None:
        return
    with autocast():
        loss: Tensor | None = second_loss(batch)
    if loss is None:
        return
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()


def busy_seconds(device: torch.device) -> float:
    """A clock that on the processor counts its own work alone (seconds × cores), so that work beside it tells nothing.

    Elsewhere the clock on the wall: a GPU's work is no processor's.
    """
    return time.process_time() if device.type == "cpu" else time.monotonic()


def parameter_groups(
    model: nn.Module, *, learning_rates: dict[str, float], default: float, weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW groups by name prefix; norms and biases do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = next((rate for prefix, rate in learning_rates.items() if name.startswith(prefix)), default)
        groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
        if rate > 0
    ]


STEPS_DOWN = 5
"""A `step` schedule halves the rate so often over a run."""


def _factor(schedule: Schedule, steps: int, warmup: float) -> Callable[[int], float]:
    """Step → factor of the learning rate: a linear rise over the share `warmup`, then down by `schedule`."""
    rise = max(1, int(steps * warmup))

    def factor(step: int) -> float:
        if step + 1 < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / max(1, steps - rise)) if step > rise else 0.0
        match schedule:
            case "linear":
                return 1.0 - done
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * done))
            case "step":
                return float(0.5 ** int(STEPS_DOWN * done))
            case "constant":
                return 1.0

    return factor


def _write_log(history: Path, log_file: Path) -> None:
    """A row an epoch; one that a kill had made twice counts once."""
    epochs = {row["epoch"]: row for row in map(json.loads, history.read_text().splitlines())}
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, next(iter(epochs.values())).keys())
        rows.writeheader()
        rows.writerows(epochs.values())


def _resume(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rates: torch.optim.lr_scheduler.LambdaLR,
    average: _Average | None,
) -> tuple[int, dict[str, float] | None]:
    file = run / "last.pt"
    if not file.exists():
        return 0, None
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    rates.load_state_dict(checkpoint["schedule"])
    if average is not None:
        average.load_state_dict(checkpoint["average"])
    log.info("resuming %s after epoch %d", run, checkpoint["epoch"] - 1)
    return checkpoint["epoch"], checkpoint["best"]


def _save(file: Path, checkpoint: dict[str, Any]) -> None:
    """Rename into place, so that a kill while writing leaves the previous checkpoint whole."""
    partial = file.with_suffix(".partial")
    torch.save(checkpoint, partial)
    partial.replace(file)
