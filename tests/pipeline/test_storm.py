"""The storm of tests/benchmarks in a short form, on each stack; and that its account sees what is off."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from inference_worker import artifact
from inference_worker.contract import Prediction
from inference_worker.settings import DEFAULT_MODEL
from tests import apache
from tests.benchmarks.storm.__main__ import QUICK
from tests.benchmarks.storm.account import is_same, predicted, wrong_letters
from tests.benchmarks.storm.network import acts
from tests.benchmarks.storm.servers import StackName
from tests.benchmarks.storm.storm import storm
from tests.pipeline.test_faults import post

SEED = 9


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("stack", ["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def test_nothing_is_lost_and_nothing_counts_twice_under_fire(stack: StackName, tmp_path: Path) -> None:
    if stack == "apache" and (reason := apache.missing()) is not None:
        pytest.skip(reason)
    found = asyncio.run(storm(replace(QUICK, stack=stack, seed=SEED), tmp_path))
    assert found["off"] == [], found
    assert sum(found["faults"].values()) == QUICK.kills + QUICK.rebalances
    assert sum(found["dead_letters"].values()) == found["poison"] == QUICK.poison


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    predictor = artifact.load(DEFAULT_MODEL, engine="null")
    (found,) = predicted([post("one", "what a lovely day")], predictor)
    return found


def test_a_prediction_is_the_same_but_for_times(prediction: Prediction) -> None:
    later = msgspec.structs.replace(prediction, queued_ms=7)
    other = msgspec.structs.replace(prediction, probabilities=(0.2, 0.3, 0.5))
    assert is_same(prediction, later)
    assert not is_same(prediction, other)
    assert is_same(*(msgspec.structs.replace(one, model="MDSE") for one in (prediction, later)))
    assert not is_same(*(msgspec.structs.replace(one, model="MDSE") for one in (prediction, other)))


def test_a_seed_tells_the_same_story_and_changes_come_after_what_they_change() -> None:
    told = list(acts(5000, random.Random(3)))
    assert told == list(acts(5000, random.Random(3))) != list(acts(5000, random.Random(4)))
    first = {act.number: place for place, act in reversed([*enumerate(told)]) if act.kind == "create"}
    changes = [(act, place) for place, act in enumerate(told) if act.kind != "create"]
    assert len(first) == 5000 and {act.kind for act, _ in changes} == {"update", "delete"}
    assert all(first[act.number] < place for act, place in changes)


def test_dead_letters_are_told_by_what_they_say() -> None:
    poison = {"no record": 2, "schema 99": 1}
    assert wrong_letters(poison, ["has schema 99", "no record (3 bytes)", "no record (5 bytes)"]) == []
    assert wrong_letters(poison, ["no record (3 bytes)", "odd"]) == [
        "unexpected: odd",
        "missing: no record",
        "missing: schema 99",
    ]
