"""The rules by which X filters the stream, kept in step with the topics.

Rules belong to the app and outlive the stream; somebody else may have set some. Ours are known by their tag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import httpx

from ingest.sources.x_api import call, sentence

PATH: Final = "/2/tweets/search/stream/rules"
TAG: Final = "moodstream:"
MAX_RULES: Final = 1000
MAX_QUERY: Final = 1024
RULES_PER_REQUEST: Final = 100
RULES_PER_PAGE: Final = 1000
REFUSALS: Final = (400, 422)
"""X mostly tells of bad rules under a status of success."""

log = logging.getLogger(__name__)


class RuleChanges(NamedTuple):
    """What came of new topics. added: topics; deleted: a count; refused: topic → why X does not take its query."""

    added: tuple[str, ...] = ()
    deleted: int = 0
    refused: Mapping[str, str] = {}


class _Existing(NamedTuple):
    """Rules of the app, query → id: ours, and those of others, which are never touched."""

    ours: dict[str, str]
    others: dict[str, str]


async def follow(client: httpx.AsyncClient, queries: Mapping[str, str]) -> RuleChanges:
    """Makes our rules those of `queries` (topic → query); X puts changes into effect within some 20 s.

    X compares rules by their query, so a query asked for twice, by a topic or by somebody else, needs no other rule.
    A dry run comes first: one bad rule among good ones would keep them all out.
    """
    existing = await _existing(client)
    topic_of = {query: topic for topic, query in queries.items()}
    stale = [rule_id for query, rule_id in existing.ours.items() if query not in topic_of]
    new = [query for query in topic_of if query not in existing.ours and query not in existing.others]
    kept = len(existing.ours) + len(existing.others) - len(stale)
    refused = {query: f"longer than {MAX_QUERY} characters" for query in new if len(query) > MAX_QUERY}
    refused |= dict.fromkeys(_without(new, refused)[MAX_RULES - kept :], f"X takes {MAX_RULES} rules at most")
    # New rules first, so that a changed topic has no gap; only where there is no room for both it has one.
    is_full = kept + len(stale) + len(_without(new, refused)) > MAX_RULES
    if is_full:
        await _delete(client, stale)
    for dry_run in (True, False):
        refused |= await _add(client, _without(new, refused), topic_of, dry_run=dry_run)
    if not is_full:
        await _delete(client, stale)
    changes = RuleChanges(
        tuple(topic_of[query] for query in _without(new, refused)),
        len(stale),
        {topic: refused[query] for topic, query in queries.items() if query in refused},
    )
    for topic, reason in changes.refused.items():
        log.warning("X does not take the query of topic %r: %s", topic, reason)
    log.info("X's rules: %d added, %d deleted", len(changes.added), changes.deleted)
    return changes


async def _existing(client: httpx.AsyncClient) -> _Existing:
    existing = _Existing({}, {})
    params = {"max_results": str(RULES_PER_PAGE)}
    while True:
        answer = await call(client, "GET", PATH, params=params)
        for rule in answer.get("data") or ():
            ours = str(rule.get("tag") or "").startswith(TAG)
            (existing.ours if ours else existing.others)[rule["value"]] = rule["id"]
        if not (token := (answer.get("meta") or {}).get("next_token")):
            return existing
        params["pagination_token"] = token


async def _add(
    client: httpx.AsyncClient, queries: Sequence[str], topic_of: Mapping[str, str], *, dry_run: bool
) -> dict[str, str]:
    """Why X refuses which of the queries."""
    refused: dict[str, str] = {}
    for batch in _batches(queries):
        rules = [{"value": query, "tag": TAG + topic_of[query]} for query in batch]
        params = {"dry_run": "true"} if dry_run else {}
        answer = await call(client, "POST", PATH, params=params, body={"add": rules}, tolerated=REFUSALS)
        for problem in answer.get("errors") or ([] if "meta" in answer else [answer]):
            # Somebody was quicker with the same rule; it delivers to us too.
            if str(problem.get("type")).endswith("/duplicate-rules"):
                continue
            # A problem that names no rule, such as the cap, is that of the whole batch.
            concerned = [problem["value"]] if "value" in problem else batch
            refused |= dict.fromkeys(concerned, sentence(problem))
    return refused


async def _delete(client: httpx.AsyncClient, rule_ids: Sequence[str]) -> None:
    for batch in _batches(rule_ids):
        await call(client, "POST", PATH, params={}, body={"delete": {"ids": batch}})


def _without(queries: Iterable[str], refused: Mapping[str, Any]) -> list[str]:
    return [query for query in queries if query not in refused]


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), RULES_PER_REQUEST):
        yield list(items[start : start + RULES_PER_REQUEST])
