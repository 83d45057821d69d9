import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.batches import Batch  # noqa: E402
from training.loop import fit, parameter_groups  # noqa: E402

pytestmark = pytest.mark.train
Build = Callable[..., Any]


def train(
    model: Any,
    run: Path,
    build_batch: Build,
    *,
    epochs: int,
    stop_after: int | None = None,
    stop_early: int | None = None,
    averaging: float | None = None,
) -> dict[str, float]:
    """Two batches an epoch, different every epoch; `stop_after` breaks the run as a kill would."""

    def epoch_batches(generator: np.random.Generator) -> Iterable[Batch]:
        return [build_batch(seed=int(seed)) for seed in generator.integers(1000, size=2)]

    validations = []

    def validate(_: Any) -> dict[str, float]:
        if len(validations) == stop_after:
            raise KeyboardInterrupt
        validations.append(1)
        return {"score": float(len(validations))}

    return fit(
        model,
        optimizer=torch.optim.AdamW(
            parameter_groups(model, learning_rates={"text_encoder.": 1e-3}, default=1e-2, weight_decay=0.01)
        ),
        epoch_batches=epoch_batches,
        steps_per_epoch=2,
        epochs=epochs,
        seed=5,
        validate=validate,
        select="score",
        run=run,
        config={"seed": 5},
        averaging=averaging,
        stop_after=stop_early,
    )


def losses(run: Path) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def test_resumed_run_repeats_the_losses_of_an_unbroken_one(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(build_tiny_model(), whole, build_batch, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        train(build_tiny_model(), broken, build_batch, epochs=4, stop_after=2)
    train(build_tiny_model(seed=9), broken, build_batch, epochs=4)
    assert losses(broken) == losses(whole)


def test_a_run_can_stop_early_and_go_on_as_if_it_had_not(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(build_tiny_model(), whole, build_batch, epochs=3)
    train(build_tiny_model(), parted, build_batch, epochs=3, stop_early=1)
    assert len(losses(parted)) == 1
    train(build_tiny_model(seed=9), parted, build_batch, epochs=3)
    assert losses(parted) == losses(whole)


def test_averaged_weights_are_what_is_saved_and_survive_a_resumption(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    plain, whole, broken = tmp_path / "plain", tmp_path / "whole", tmp_path / "broken"
    train(build_tiny_model(), plain, build_batch, epochs=4)
    train(build_tiny_model(), whole, build_batch, epochs=4, averaging=0.9)
    with pytest.raises(KeyboardInterrupt):
        train(build_tiny_model(), broken, build_batch, epochs=4, stop_after=2, averaging=0.9)
    train(build_tiny_model(), broken, build_batch, epochs=4, averaging=0.9)
    averages = [torch.load(run / "last.pt", weights_only=True)["average"] for run in (whole, broken)]
    for name, average in averages[0].items():
        assert torch.equal(average, averages[1][name]), name
    best = [torch.load(run / "best.pt", weights_only=True)["model"]["classifier.1.weight"] for run in (plain, whole)]
    assert not torch.allclose(*best)
    assert losses(plain) == losses(whole)


def test_best_checkpoint_carries_its_config_and_metrics(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    best = train(build_tiny_model(), tmp_path, build_batch, epochs=2)
    checkpoint = torch.load(tmp_path / "best.pt", weights_only=True)
    assert checkpoint["config"] == {"seed": 5}
    assert checkpoint["metrics"] == best
    assert best["epoch"] == 1
    build_tiny_model().load_state_dict(checkpoint["model"])


def test_two_workers_add_up_to_the_gradient_of_one(build_tiny_model: Build, build_batch: Build) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import nullcontext

    from training.loop import _backward

    one, two = build_tiny_model().eval(), build_tiny_model().eval()
    batch = build_batch(rows=7, image=False)
    with ThreadPoolExecutor(2) as pool:
        loss = _backward(one, [batch], pool, nullcontext)
        assert _backward(two, batch.split(2), pool, nullcontext) == pytest.approx(loss, rel=1e-5)
    for mine, theirs in zip(one.text_head.parameters(), two.text_head.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_schedules_rise_first_and_then_fall_in_their_own_way() -> None:
    from training.loop import _factor

    def at(schedule: Any, *steps: int) -> list[float]:
        return [round(_factor(schedule, 100, 0.1)(step), 3) for step in steps]

    assert at("linear", 0, 4, 9, 10, 55, 100) == [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    assert at("cosine", 0, 10, 55, 100) == [0.1, 1.0, 0.5, 0.0]
    assert at("step", 10, 27, 29, 99, 100) == [1.0, 1.0, 0.5, 0.062, 0.031]
    assert at("constant", 0, 10, 99) == [0.1, 1.0, 1.0]


def fit_with(model: Any, run: Path, build_batch: Build, scores: list[float], **chosen: Any) -> dict[str, float]:
    given = iter(scores)
    return fit(
        model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        epoch_batches=lambda generator: [build_batch(seed=int(generator.integers(1000)))],
        steps_per_epoch=1,
        epochs=len(scores),
        seed=1,
        validate=lambda _: {"score": next(given)},
        select="score",
        run=run,
        config={},
        **chosen,
    )


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path, build_tiny_model: Build, build_batch: Build) -> None:
    best = fit_with(build_tiny_model(), tmp_path, build_batch, [1, 3, 2, 2, 9], patience=2)
    assert (best["epoch"], best["score"]) == (1, 3)
    assert len(losses(tmp_path)) == 4


def test_the_log_of_epochs_counts_one_a_kill_had_made_twice_once(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    log_file = tmp_path / "logs" / "run.csv"
    fit_with(build_tiny_model(), tmp_path, build_batch, [3, 1, 2], stop_after=2, log_file=log_file)
    first = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(first + first.splitlines()[1].replace('"epoch": 1', '"epoch": 2') + "\n")
    fit_with(build_tiny_model(), tmp_path, build_batch, [5, 6, 7], log_file=log_file)
    header, *epochs = log_file.read_text().splitlines()
    assert header == "epoch,train_loss,seconds,score"
    assert [(row.split(",")[0], row.split(",")[-1]) for row in epochs] == [("0", "3"), ("1", "1"), ("2", "5")]


def test_bfloat16_keeps_weights_in_float32_and_learns(
    tmp_path: Path, build_tiny_model: Build, build_batch: Build
) -> None:
    model = build_tiny_model(dropout=0.0, head_dropout=0.0)
    fit_with(model, tmp_path, build_batch, list(range(8)), precision="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]


def test_a_second_loss_makes_a_second_step_where_there_is_one(tmp_path: Path, build_batch: Build) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(1.0))
            self.asked = 0

        def loss(self, _: Any) -> Any:
            return 0.0 * self.weight

        def second_loss(self, _: Any) -> Any:
            self.asked += 1
            return self.weight if self.asked == 2 else None

    model = Twice()
    fit_with(model, tmp_path, build_batch, [0, 1, 2])
    assert model.asked == 3
    assert 0.97 < model.weight.item() < 1.0


def test_batch_splits_into_parts_of_nearly_equal_size(build_batch: Build) -> None:
    parts = build_batch(rows=7, image=False).split(3)
    assert [len(part.labels) for part in parts] == [3, 2, 2]
    assert all(part.pixel_values is None for part in parts)
    assert len(build_batch(rows=1).split(4)) == 1


def test_frozen_parameters_and_zero_rates_are_left_out(build_tiny_model: Build) -> None:
    model = build_tiny_model()
    model.image_encoder.requires_grad_(False)
    groups = parameter_groups(model, learning_rates={"text_encoder.": 0.0}, default=1e-3, weight_decay=0.1)
    trained = {id(p) for group in groups for p in group["params"]}
    kept_out = [*model.text_encoder.parameters(), *model.image_encoder.parameters()]
    assert not trained & {id(p) for p in kept_out}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
