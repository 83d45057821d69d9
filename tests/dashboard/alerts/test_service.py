"""Every closed minute counts once, in order, whatever happens to the service; and alerts do not storm."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dashboard.alerts import evaluation, service
from dashboard.alerts.baselines import minute_of
from dashboard.alerts.evaluation import backtest
from dashboard.alerts.history import acknowledge, active_alerts, alerts_between, checks, mute
from inference_worker.contract import Results
from tests.dashboard.alerts.conftest import MakeWatch, run_out
from tests.dashboard.alerts.feeds import START, steady
from tests.dashboard.seeding import Seed, Server, prediction, wait_until

HASTY = """
[[rule]]
name = "spike"
kind = "volume"
windows_min = [5, 15]
false_alarms_per_day = 40
recheck = 0.4
ratio = 1.0
min_posts = 2
cooldown_min = 40
clear_after_min = 3
[[rule]]
name = "shift"
kind = "sentiment"
windows_min = [15]
false_alarms_per_day = 40
effect = 0.05
min_posts = 4
cooldown_min = 30
clear_after_min = 3
"""
"""Rules so hasty that chance alone opens many alerts: the more there are, the more can differ."""


def test_a_burst_opens_one_alert_and_names_its_baselines(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    seed(steady(1000, 1.5, burst=(800, 900, 6)), "run", kind="replay")
    (alert,) = run_out(make_watch())
    assert (alert.rule, alert.topic, alert.direction) == ("Volume spike", "tram", "up")
    assert START + timedelta(minutes=800) < alert.opened_at <= START + timedelta(minutes=806)
    assert [baseline.name for baseline in alert.baselines] == ["past 12 h", "the 3 h before"]
    assert alert.link.startswith("/trends?namespace=run&topics=tram&from=2026-03-02T")
    assert alert.closed_at is not None
    assert len(alert.examples) == 3
    assert alerts_between(redis, "run", START, START + timedelta(days=1)) == [alert]
    assert active_alerts(redis, "run") == []


def test_a_swing_of_mood_is_found_and_its_side_named(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    seed(steady(900, 2, swing=(840, 900, -0.7)), "run", kind="replay")
    alerts = [alert for alert in run_out(make_watch()) if alert.rule == "Sentiment shift"]
    assert [(alert.topic, alert.direction) for alert in alerts] == [("tram", "down")]
    assert active_alerts(redis, "run")


def test_the_same_hour_yesterday_explains_a_daily_burst(seed: Seed, make_watch: MakeWatch) -> None:
    posts = steady(1000, 1.5, burst=(800, 900, 6))
    again = steady(1440, 1.5, burst=(800, 900, 6), start=START + timedelta(days=1), seed=2)
    renamed = [prediction(10_000 + number, post.created_at, topics=("tram",)) for number, post in enumerate(again)]
    filler = steady(440, 1.5, start=START + timedelta(minutes=1000), seed=3)
    filled = [prediction(90_000 + number, post.created_at, topics=("tram",)) for number, post in enumerate(filler)]
    seed([*posts, *filled, *renamed], "run", kind="replay")
    spikes = [alert for alert in run_out(make_watch()) if alert.kind == "volume"]
    assert [alert.opened_at.date() for alert in spikes] == [START.date()]


def test_a_topic_that_falls_silent_is_told(seed: Seed, make_watch: MakeWatch) -> None:
    others = steady(900, 1, topic="coffee", seed=5)
    renamed = [prediction(50_000 + number, post.created_at, topics=("coffee",)) for number, post in enumerate(others)]
    seed([*steady(800, 2), *renamed], "run", kind="replay")
    toml = '[[rule]]\nname = "quiet"\nkind = "silent"\nwindows_min = [30]\n'
    (alert,) = run_out(make_watch(toml=toml))
    assert (alert.topic, alert.observed) == ("tram", 0)
    assert "no post in 30 minutes" in alert.sentence


def test_a_live_feed_that_stops_is_told_by_the_walls_clock(seed: Seed, make_watch: MakeWatch) -> None:
    seed(steady(800, 2), "run", kind="live")
    watch = make_watch(now=START + timedelta(minutes=850))
    results = Results(watch.redis, "run")
    state = evaluation.State(next_minute=int(START.timestamp()) // 60, starts={"all": int(START.timestamp()) // 60})
    clock = evaluation.clock_of(results, results.meta(), START + timedelta(minutes=850), 300.0)
    assert clock == START + timedelta(minutes=845)
    outcome = evaluation.evaluate(results, watch.rules.rules, state, evaluation.closed_until(clock, 10))
    assert [event.alert.rule for event in outcome.events] == ["Feed silent"]


def test_drift_is_found_by_adwin(seed: Seed, make_watch: MakeWatch) -> None:
    seed(steady(700, 3, swing=(450, 700, -0.8)), "run", kind="replay")
    toml = '[[rule]]\nname = "drift"\nkind = "drift"\nmin_posts = 30\n'
    (alert,) = run_out(make_watch(toml=toml))
    assert alert.direction == "down"
    assert START + timedelta(minutes=450) < alert.opened_at <= START + timedelta(minutes=645)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_minute_by_minute_restarted_and_in_one_go_are_the_same(
    seed: Seed, make_watch: MakeWatch, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(steady(700, 1.2, burst=(500, 530, 4), swing=(300, 350, -0.6)), "run", kind="replay")
    at_once = run_out(make_watch(toml=HASTY))
    assert len(at_once) >= 3
    keys = [key for key in redis.scan_iter(match="{run}:alerts*")]
    for step in (1, 7, 61):
        redis.delete(*keys)
        monkeypatch.setattr(evaluation, "BATCH_MIN", step)
        watch = make_watch(toml=HASTY)
        while watch.step():  # every step by a service that knows nothing but what Redis holds
            watch.ledger.release()
            watch = make_watch(toml=HASTY)
        assert run_out(watch) == at_once


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10_000))
def test_storms_are_impossible(number: int, seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    redis.flushall()
    dice = random.Random(number)
    at, posts = 0.0, []
    while at < 600:
        at += dice.expovariate(dice.choice((0.2, 1.0, 8.0)))
        fused = dice.choice(((0.9, 0.05, 0.05), (0.05, 0.05, 0.9)))
        posts.append(prediction(len(posts), START + timedelta(minutes=at), fused=fused, topics=("tram",)))
    seed(posts, "run", kind="replay")
    opened: dict[str, list] = {"spike": [], "shift": []}
    for alert in run_out(make_watch(toml=HASTY)):
        opened[alert.rule].append(alert.opened_at)
    for rule, cooldown in (("spike", 40), ("shift", 30)):
        gaps = [later - earlier for earlier, later in zip(opened[rule], opened[rule][1:], strict=False)]
        assert all(gap >= timedelta(minutes=cooldown) for gap in gaps)


def test_a_late_post_does_not_reopen_an_evaluated_minute(seed: Seed, make_watch: MakeWatch) -> None:
    posts = steady(900, 1.5)
    seed(posts, "run", kind="replay")
    assert run_out(make_watch()) == []
    late = [prediction(70_000 + n, START + timedelta(minutes=700, seconds=n), topics=("tram",)) for n in range(60)]
    seed(late, "run", kind="replay", first_offset=len(posts))
    assert [alert for alert in run_out(make_watch()) if alert.kind == "volume"] == []


def test_a_second_instance_stands_by_and_takes_over(seed: Seed, make_watch: MakeWatch) -> None:
    seed(steady(200, 1), "run", kind="replay")
    first, second = make_watch(), make_watch()
    first.step()
    second.step()
    assert (first.is_leading, second.is_leading, second.evaluated) == (True, False, 0)
    first.ledger.release()
    second.step()
    assert second.is_leading


def test_a_long_batch_keeps_its_lock_and_a_killed_instance_loses_it_soon(
    make_watch: MakeWatch, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.alerts.ledger.LOCK_TTL_MS", 1000)
    monkeypatch.setattr("dashboard.alerts.service.RENEW_S", 0.1)
    slow, other = make_watch(), make_watch()

    async def batch() -> list[bool]:
        """Two and a half times the life of the lock, which another instance asks for meanwhile."""
        stopping = asyncio.Event()
        assert slow.ledger.hold()
        serving = asyncio.create_task(service.keep_lock(slow.ledger, stopping))
        taken = []
        for _ in range(25):
            taken.append(other.ledger.hold())
            await asyncio.sleep(0.1)
        stopping.set()
        await serving
        return taken

    assert not any(asyncio.run(batch()))
    wait_until(other.ledger.hold, "the lock is free", timeout_s=5)
    slow.ledger.renew()
    assert redis.get(slow.ledger.keys.lock) == other.ledger.token


def test_a_killed_instance_keeps_a_standby_waiting_for_30_seconds_at_most(make_watch: MakeWatch, redis: Redis) -> None:
    killed = make_watch()
    assert killed.ledger.hold()
    killed.ledger.renew()
    assert 0 < redis.pttl(killed.ledger.keys.lock) <= 30_000


def test_an_instance_that_lost_its_lock_writes_nothing(
    seed: Seed, make_watch: MakeWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(steady(200, 1), "run", kind="replay")
    slow, other = make_watch(), make_watch()
    monkeypatch.setattr(slow.ledger, "hold", lambda: True)
    assert other.ledger.hold()
    assert not slow.step()
    assert (slow.evaluated, slow.ledger.state()) == (0, None)


def test_redis_away_passes_through_and_the_next_step_catches_up(
    seed: Seed, make_watch: MakeWatch, server: Server
) -> None:
    posts = steady(1000, 1.5, burst=(800, 900, 6))
    watch = make_watch()
    server.stop()
    with pytest.raises(RedisConnectionError):
        watch.step()
    server.start()
    seed(posts, "run", kind="replay")
    assert len(run_out(watch)) == 1


def test_an_empty_namespace_waits(make_watch: MakeWatch) -> None:
    assert run_out(make_watch()) == []


def test_an_unknown_topic_is_told_once(seed: Seed, make_watch: MakeWatch, caplog: pytest.LogCaptureFixture) -> None:
    seed(steady(100, 1), "run", kind="replay")
    watch = make_watch(toml='[[rule]]\nname = "x"\nkind = "volume"\ntopics = ["trma"]\n')
    run_out(watch)
    watch.step()
    assert caplog.text.count("names topic 'trma', of which no post was seen yet: known are 'all', 'tram'") == 1


def test_a_bad_edit_is_told_and_the_old_rules_stay(
    seed: Seed, make_watch: MakeWatch, caplog: pytest.LogCaptureFixture
) -> None:
    seed(steady(100, 1), "run", kind="replay")
    watch = make_watch(toml=HASTY)
    watch.rules.path.write_text("[[rule")
    watch.step()
    assert "the old rules stay" in caplog.text
    assert [rule.name for rule in watch.rules.rules] == ["spike", "shift"]


def test_a_rule_switched_off_closes_its_alert(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    posts = steady(1000, 1.5, burst=(900, 1000, 6))
    seed(posts, "run", kind="replay")
    watch = make_watch()
    run_out(watch)
    (alert,) = active_alerts(redis, "run")
    watch.rules.path.write_text("rule = []\n")
    more = [prediction(80_000 + n, START + timedelta(minutes=1000 + n), topics=("tram",)) for n in range(5)]
    seed(more, "run", kind="replay", first_offset=len(posts))
    run_out(watch)
    assert active_alerts(redis, "run") == []


def test_a_muted_topic_opens_alerts_but_tells_nobody(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    seed(steady(1000, 1.5, burst=(800, 900, 6)), "run", kind="replay")
    mute(redis, "run", "Volume spike", "tram", START + timedelta(days=2))
    watch = make_watch()
    assert len(run_out(watch)) == 1
    assert watch.ledger.undelivered() == []


def test_an_acknowledgement_outlives_updates(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    posts = steady(1000, 1.5, burst=(900, 1000, 6))
    seed(posts, "run", kind="replay")
    watch = make_watch()
    run_out(watch)
    (alert,) = active_alerts(redis, "run")
    acknowledge(redis, "run", alert, by="ada", at=START)
    more = [prediction(80_000 + n, START + timedelta(minutes=1000, seconds=n), topics=("tram",)) for n in range(200)]
    seed(more, "run", kind="replay", first_offset=len(posts))
    run_out(watch)
    alert = next(alert for alert in active_alerts(redis, "run") if alert.kind == "volume")
    assert (alert.acknowledged_by, alert.acknowledged_at) == ("ada", START)


def test_a_backtest_says_what_the_service_would(seed: Seed, make_watch: MakeWatch, redis: Redis) -> None:
    seed(steady(1000, 1.5, burst=(800, 900, 6)), "run", kind="replay")
    watch = make_watch()
    found = backtest(Results(redis, "run"), watch.rules.rules, START, START + timedelta(days=2), grace_s=10)
    assert checks(redis, "run") == []
    assert found == run_out(watch)
    assert {check.rule for check in checks(redis, "run")} >= {"Volume spike", "Sentiment shift"}


def test_a_topic_whose_first_posts_came_late_began_with_them(seed: Seed, make_watch: MakeWatch) -> None:
    posts = [prediction(number, START + timedelta(minutes=number), topics=("tram",)) for number in range(20)]
    seed(posts[5:10], "run", kind="replay")
    watch = make_watch()
    run_out(watch)
    seed([*posts[:5], *posts[10:]], "run", kind="replay", first_offset=100)
    run_out(watch)
    state = watch.ledger.state()
    assert state is not None
    assert state.starts["tram"] == minute_of(START)
