"""Two versions of the model side by side on one stream, the switch to the new one, and the way back."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from deploy.local import Service
from inference_worker.contract import Meta, Results, meta_key
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post
from tests.pipeline.conftest import Pipeline, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OPENINGS: Final = ("so happy with", "just saw", "what a terrible disappointment,")
POSTS: Final = 30


def artifact(folder: Path, version: str, *, swaps_classes: bool = False) -> Path:
    """The shipped one under another version; with classes swapped its positive is neutral and the other way round."""
    folder.mkdir()
    for file in DEFAULT_MODEL.iterdir():
        (folder / file.name).symlink_to(file)
    manifest = json.loads((DEFAULT_MODEL / "artifact.json").read_text()) | {"version": version}
    if swaps_classes:
        manifest["labels"] = ["neutral", "positive", "negative"]
        golden = json.loads((DEFAULT_MODEL / "golden.json").read_text())
        golden["tolerance"] = dict.fromkeys(golden["tolerance"], 1.0)
        packed = json.dumps(golden).encode()
        (folder / "golden.json").unlink()
        (folder / "golden.json").write_bytes(packed)
        manifest["sha256"]["golden.json"] = hashlib.sha256(packed).hexdigest()
    (folder / "artifact.json").unlink()
    (folder / "artifact.json").write_text(json.dumps(manifest))
    return folder


def posts(first: int) -> list[Post]:
    at = datetime.now(UTC)
    texts = [f"{OPENINGS[number % 3]} the tram no {number}" for number in range(first, first + POSTS)]
    return [
        Post(id=f"test:{first + n}", source="test", created_at=at, ingested_at=at, text=text, topics=("tram",))
        for n, text in enumerate(texts)
    ]


class Versioned(Pipeline):
    """A live namespace whose workers load what a link names."""

    link: Path
    extra: dict[str, str]

    def environment(self, namespace: str | None = None) -> dict[str, str]:
        live = {"MOODSTREAM_KIND": "live", "MOODSTREAM_MODEL": str(self.link), "MOODSTREAM_ENGINE_THREADS": "1"}
        return super().environment(namespace) | live | self.extra

    def shadow(self, name: str, model: Path) -> Results:
        """Starts one; its results."""
        self.extra = {"MOODSTREAM_SHADOW": name, "MOODSTREAM_MODEL": str(model)}
        self.start_worker()
        self.extra = {}
        results = Results(self.redis, f"{self.namespace}-{name}")
        # Its lag is known once it has found where the topic ends.
        self.until(lambda: any(state.lag is not None for state in results.workers()), "the shadow is ready", 60)
        return results

    def model_of(self, post: int) -> str:
        found = self.results.prediction(f"test:{post}")
        return found.model if found is not None else ""


@on_embedded
def test_a_shadow_is_compared_switched_to_and_rolled_back(pipeline: Pipeline, tmp_path: Path) -> None:
    old, new = artifact(tmp_path / "old", "1"), artifact(tmp_path / "new", "2", swaps_classes=True)
    live = Versioned(pipeline.stack, pipeline.namespace, pipeline.runs)
    live.workers, live.link, live.extra = pipeline.workers, tmp_path / "current", {}
    assert live.ask("model", "switch", str(live.link), str(old))["done"]
    worker = live.start_worker()
    live.wait_for_worker()
    shadow = live.shadow("candidate", new)

    live.send_fast(posts(0), run="both")
    live.wait_until_settled("both", POSTS, 60)
    live.until(lambda: shadow.counters("both").get("scored", 0) >= POSTS, "the shadow has scored them too", 60)
    assert shadow.counters() == {"scored": POSTS}
    assert live.results.counters() == {"scored": POSTS}
    assert live.results.total().posts == POSTS
    assert {live.model_of(number) for number in range(POSTS)} == {"mdse-small 1"}
    assert shadow.meta().source == f"shadow of {live.namespace}"

    found = live.ask("model", "compare", "candidate")
    assert (found["shared"], found["only_live"], found["only_shadow"]) == (POSTS, 0, 0)
    assert (found["live"]["models"], found["shadow"]["models"]) == (["mdse-small 1"], ["mdse-small 2"])
    alike = sum(live.results.prediction(f"test:{n}").predicted == "negative" for n in range(POSTS)) / POSTS
    assert 0 < alike < 1
    assert found["agreement"]["agreeing"]["value"] == alike
    assert found["agreement"]["live"] == [found["agreement"]["shadow"][place] for place in (1, 0, 2)]
    assert [(one["topic"], one["posts"]) for one in found["topics"]] == [("tram", POSTS)]
    told = live.tried("model", "compare", "candidate").stdout
    assert "mdse-small 1" in told and "mdse-small 2" in told

    for number, (action, version) in enumerate(((("switch", str(new)), "2"), (("rollback",), "1")), 1):
        assert f"is mdse-small {version}" in live.ask("model", action[0], str(live.link), *action[1:])["done"]
        assert live.stop_worker(worker) == 0
        worker = live.start_worker()
        run = f"after {action[0]}"
        live.send_fast(posts(number * 100), run=run)
        assert live.wait_until_settled(run, POSTS, 60) == {"scored": POSTS}
        assert live.model_of(number * 100) == f"mdse-small {version}"
    assert live.results.counters() == {"scored": 3 * POSTS}
    assert live.results.total().posts == 3 * POSTS
    assert shadow.counters() == {"scored": 3 * POSTS}
    assert_deleted_without_a_trace(live, live.workers[1])


def assert_deleted_without_a_trace(live: Versioned, shadow: Service) -> None:
    asked = ("model", "delete", "candidate", "--yes")
    assert "has workers at work: stop them first" in live.tried(*asked).stderr
    assert live.stop_worker(shadow) == 0
    name, mine = f"{live.namespace}-candidate", msgspec.msgpack.encode(Meta(shards=1))
    live.redis.set(meta_key(f"{live.namespace}-own"), mine)
    for other, told in (("own", "is no shadow of"), ("none", "MOODSTREAM_SHADOW=none")):
        refused = live.tried("model", "delete", other, "--yes")
        assert (refused.returncode, told in refused.stderr) == (2, True)
    found = live.ask(*asked)
    assert (found["namespace"], found["topics"]) == (name, [f"{name}.dead-letters"]) and found["keys"] > POSTS
    assert [key for key in live.redis.scan_iter(f"{{{name}*")] == []
    assert live.results.counters() == {"scored": 3 * POSTS}
