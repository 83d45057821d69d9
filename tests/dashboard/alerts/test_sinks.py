"""A webhook that refuses, dawdles or is gone: told again until it acknowledges, and its address never shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from redis import Redis

from dashboard.alerts import delivery
from dashboard.alerts.delivery import Delivery
from dashboard.alerts.errors import BadSettings, NotDelivered
from dashboard.alerts.ledger import Ledger
from dashboard.alerts.settings import AlertSettings
from dashboard.alerts.sinks import LogSink, Notification, Sink, WebhookSink
from tests.dashboard.alerts.feeds import START
from tests.dashboard.alerts.made_up import alert

SECRET = "https://hooks.example.org/T0/very-secret"
Answer = Callable[[httpx.Request], httpx.Response]


def notification(number: int = 1, sink: str = "webhook") -> Notification:
    one = alert(opened_at=START + timedelta(minutes=number))
    return Notification(id=f"{number}:opened:{sink}", sink=sink, happening="opened", alert=one)


def webhook(answer: Answer) -> WebhookSink:
    return WebhookSink(httpx.AsyncClient(transport=httpx.MockTransport(answer)), SECRET, "https://mood.example.org")


def put(ledger: Ledger, *waiting: Notification) -> None:
    import msgspec

    for one in waiting:
        ledger.redis.hset(ledger.keys.outbox, one.id, msgspec.msgpack.encode(one))


async def test_webhook_receives_the_whole_alert() -> None:
    received: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return httpx.Response(204)

    await webhook(answer).send(notification())
    body = json.loads(received[0].content)
    assert (body["event"], body["topic"], body["rule"], body["observed"]) == ("opened", "tram", "Volume spike", 40)
    assert body["link"] == "https://mood.example.org/trends?namespace=run&topics=tram"
    assert body["id"] == received[0].headers["Idempotency-Key"] == "1:opened:webhook"
    assert {"namespace", "minute", "expected", "baselines", "p", "strength", "direction", "sample", "examples"} <= set(
        body
    )


def fails(error: Exception) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "retry_after_s"),
    [
        (lambda _: httpx.Response(500), 0.0),
        (lambda _: httpx.Response(429, headers={"Retry-After": "120"}), 120.0),
        (lambda _: httpx.Response(503, headers={"Retry-After": "nonsense"}), 0.0),
        (lambda _: httpx.Response(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), 0.0),
        (lambda _: httpx.Response(429, headers={"Retry-After": "1e9"}), 3600.0),
        (fails(httpx.ReadTimeout("slow " + SECRET)), 0.0),
        (fails(httpx.ConnectError("refused " + SECRET)), 0.0),
        (lambda _: httpx.Response(404), None),
        (lambda _: httpx.Response(302, headers={"Location": "https://elsewhere.example.org"}), None),
    ],
)
async def test_webhook_that_does_not_take_it_says_whether_to_ask_again(
    answer: Answer, retry_after_s: float | None
) -> None:
    with pytest.raises(NotDelivered) as refused:
        await webhook(answer).send(notification())
    assert refused.value.retry_after_s == retry_after_s
    assert "secret" not in str(refused.value)


async def test_what_is_refused_stays_in_redis_until_a_later_service_delivers_it(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_S", (0.0, 0.0))
    ledger = Ledger(redis, "run")
    put(ledger, notification(2), notification(1))
    sent: list[str] = []
    is_up = False

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["id"])
        return httpx.Response(200 if is_up else 500)

    sinks: dict[str, Sink] = {"webhook": webhook(answer)}
    assert await Delivery(ledger, sinks).send_waiting() == 0
    assert (len(ledger.undelivered()), sent) == (2, ["1:opened:webhook"])
    is_up = True
    assert await Delivery(Ledger(redis, "run"), sinks).send_waiting() == 2
    assert sent[1:] == ["1:opened:webhook", "2:opened:webhook"]
    assert ledger.undelivered() == []


async def test_a_sink_that_asks_for_time_gets_it_and_holds_up_no_other(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(redis, "run")
    put(ledger, notification(1), notification(1, "log"))
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(429, headers={"Retry-After": "600"})

    both = Delivery(ledger, {"webhook": webhook(answer), "log": LogSink()})
    assert await both.send_waiting() == 1
    assert await both.send_waiting() == 0
    assert len(calls) == 1
    assert [one.sink for one in ledger.undelivered()] == ["webhook"]
    assert "again in 600.0 s" in caplog.text
    assert "secret" not in caplog.text


async def test_a_refusal_for_good_is_given_up_and_counted(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(redis, "run")
    put(ledger, notification(1))
    once = Delivery(ledger, {"webhook": webhook(lambda _: httpx.Response(410))})
    await once.send_waiting()
    assert (once.given_up, ledger.undelivered()) == (1, [])
    assert "given up" in caplog.text


async def test_log_sink_keeps_hostile_names_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    hostile = alert(sentence="x\nERROR forged line")
    await LogSink().send(Notification(id="1", sink="log", happening="opened", alert=hostile))
    assert "\nERROR" not in caplog.records[0].getMessage()


def test_the_webhooks_address_comes_from_a_file_and_is_masked(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(SECRET + "\n")
    settings = AlertSettings.from_env({"MOODSTREAM_WEBHOOK_URL_FILE": str(path)})
    assert settings.webhook_url == SECRET
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MOODSTREAM_WEBHOOK_URL": "ftp://very-secret"}, "MOODSTREAM_WEBHOOK_URL is no http or https address"),
        ({"MOODSTREAM_WEBHOOK_URL": "http://[very-secret"}, "MOODSTREAM_WEBHOOK_URL is no http or https address"),
        ({"MOODSTREAM_WEBHOOK_URL": SECRET, "MOODSTREAM_WEBHOOK_URL_FILE": "x"}, "are both set: set one"),
        (
            {"MOODSTREAM_WEBHOOK_URL_FILE": "/no/such/file"},
            "MOODSTREAM_WEBHOOK_URL_FILE='/no/such/file' cannot be read",
        ),
        ({"MOODSTREAM_ALERTS_GRACE_S": "soon"}, "MOODSTREAM_ALERTS_GRACE_S is 'soon': give seconds from 0 to 3600"),
        ({"MOODSTREAM_LOG": "xml"}, "MOODSTREAM_LOG is 'xml': use plain or json"),
        ({"MOODSTREAM_ALERTS_HEALTH": "9111"}, "MOODSTREAM_ALERTS_HEALTH is '9111': use host:port, for example"),
        ({"MOODSTREAM_NAMESPACE": "Not One"}, "MOODSTREAM_NAMESPACE"),
    ],
)
def test_settings_that_cannot_be_used_are_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        AlertSettings.from_env(environ)
    assert said in str(refused.value)
    assert "very-secret" not in str(refused.value)
