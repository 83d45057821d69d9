"""When posts are asked for again."""

from __future__ import annotations

from ingest.sources.rechecks import FIRST_S, LAST_S, Rechecks


def ages_when_asked(rechecks: Rechecks, step_s: float = 60.0) -> list[float]:
    ages, now = [], 0.0
    while now < 4 * LAST_S:
        for check in rechecks.due(now, 100):
            ages.append(now)
            rechecks.checked(check, now)
        now += step_s
    return ages


def test_a_post_is_asked_for_ever_less_often_for_two_days() -> None:
    rechecks = Rechecks()
    rechecks.watch("t3_a", 0.0)
    ages = ages_when_asked(rechecks)
    assert ages == [FIRST_S * (1 << turn) for turn in range(10)]
    assert ages[-1] <= LAST_S and len(rechecks) == 0


def test_what_came_first_is_due_first_and_no_more_than_asked_for() -> None:
    rechecks = Rechecks()
    for number in range(5):
        rechecks.watch(f"t3_{number}", float(number))
    assert [check.name for check in rechecks.due(FIRST_S + 3, 3)] == ["t3_0", "t3_1", "t3_2"]
    assert [check.name for check in rechecks.due(FIRST_S + 3, 3)] == ["t3_3"]


def test_what_could_not_be_asked_stays_due() -> None:
    rechecks = Rechecks()
    rechecks.watch("t3_a", 0.0)
    (check,) = rechecks.due(FIRST_S, 10)
    rechecks.failed(check)
    assert rechecks.due(FIRST_S, 10) == [check]


def test_beyond_the_limit_those_asked_for_most_leave() -> None:
    rechecks = Rechecks(limit=2)
    rechecks.watch("t3_old", 0.0)
    (check,) = rechecks.due(FIRST_S, 10)
    rechecks.checked(check, FIRST_S)
    rechecks.watch("t3_a", FIRST_S)
    rechecks.watch("t3_b", FIRST_S)
    assert (len(rechecks), rechecks.dropped) == (2, 1)
    assert [check.name for check in rechecks.due(10 * FIRST_S, 10)] == ["t3_a", "t3_b"]
