"""The one training loop. A model brings its loss; a run folder brings everything needed to go on where it stopped."""

import json
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.batches import Batch

log = logging.getLogger(__name__)


def fit(
    model: nn.Module,
    *,
    optimizer: torch.optim.Optimizer,
    epoch_batches: Callable[[np.random.Generator], Iterable[Batch]],
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    validate: Callable[[nn.Module], dict[str, float]],
    select: str,
    run: Path,
    config: dict[str, Any],
    warmup: float = 0.06,
    max_norm: float = 1.0,
    workers: int = 1,
    averaging: float | None = None,
    stop_after: int | None = None,
) -> dict[str, float]:
    """Train for `epochs`, keep the weights with the highest validation `select`, return its validation metrics.

    Every epoch draws its order, crops and dropout from (seed, epoch) alone, so a run resumed after any epoch makes
    the very steps the unbroken run would have made. `run` holds last.pt (to resume), best.pt and history.jsonl.

    `workers` threads each take a share of every batch. On a CPU shared with others this beats as many threads inside
    each operation 3:1, since an operation waits for its slowest thread and a step only once; but threads draw their
    dropout in no fixed order, so only one worker repeats to the bit.

    `averaging` keeps an exponential moving average of the weights with this decay a step, and validates and saves
    that instead: on small, noisily labelled sets it is steadier than any single step's weights. `stop_after` leaves the
    last epochs, and with them the lowest rates, to another call.
    """
    run.mkdir(parents=True, exist_ok=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear_schedule(steps_per_epoch * epochs, warmup))
    average = _Average(model, averaging) if averaging is not None else None
    first_epoch, best = _resume(run, model, optimizer, schedule, average)
    pool = ThreadPoolExecutor(workers)
    for epoch in range(first_epoch, min(epochs, stop_after or epochs)):
        torch.manual_seed(seed * 1000 + epoch)
        generator = np.random.default_rng([seed, epoch])
        started = time.monotonic()
        model.train()
        losses: list[float] = []
        for batch in epoch_batches(generator):
            optimizer.zero_grad(set_to_none=True)
            loss = _backward(model, batch.split(workers), pool)
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            schedule.step()
            if average is not None:
                average.update_parameters(model)
            losses.append(loss)
            if len(losses) % 50 == 0:
                speed = (time.monotonic() - started) / len(losses)
                log.info("epoch %d step %d loss %.4f %.2f s/step", epoch, len(losses), np.mean(losses[-50:]), speed)
        judged = (average.module if average is not None else model).eval()
        metrics = {"epoch": epoch, "train_loss": float(np.mean(losses)), **validate(judged)}
        log.info("epoch %d %s", epoch, json.dumps({name: round(value, 4) for name, value in metrics.items()}))
        with (run / "history.jsonl").open("a") as history:
            history.write(json.dumps(metrics) + "\n")
        if best is None or metrics[select] > best[select]:
            best = metrics
            _save(run / "best.pt", {"model": judged.state_dict(), "config": config, "metrics": metrics})
        _save(
            run / "last.pt",
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
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


def _backward(model: nn.Module, parts: list[Batch], pool: ThreadPoolExecutor) -> float:
    """Add every part's share of the batch's gradient; returns the loss of the whole batch."""
    rows = sum(len(part.labels) for part in parts)

    def one(part: Batch) -> float:
        loss: Tensor = model.loss(part) * (len(part.labels) / rows)  # type: ignore[operator]
        loss.backward()
        return float(loss.item())

    return sum(pool.map(one, parts))


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


def _linear_schedule(steps: int, warmup: float) -> Callable[[int], float]:
    rise = max(1, int(steps * warmup))
    return lambda step: min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))


def _resume(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    average: _Average | None,
) -> tuple[int, dict[str, float] | None]:
    file = run / "last.pt"
    if not file.exists():
        return 0, None
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    schedule.load_state_dict(checkpoint["schedule"])
    if average is not None:
        average.load_state_dict(checkpoint["average"])
    log.info("resuming %s after epoch %d", run, checkpoint["epoch"] - 1)
    return checkpoint["epoch"], checkpoint["best"]


def _save(file: Path, checkpoint: dict[str, Any]) -> None:
    """Rename into place, so that a kill while writing leaves the previous checkpoint whole."""
    partial = file.with_suffix(".partial")
    torch.save(checkpoint, partial)
    partial.replace(file)
