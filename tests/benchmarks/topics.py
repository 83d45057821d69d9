"""Topics per post: how many posts a second one core matches against 10 to 5,000 rules, with the index and without.

Posts are made up (or the texts of a CSV file with `--feed`), their words as unevenly frequent as in real text; a sixth
has emoji, a sixth is in a script without spaces. Rules mix keywords, phrases, tags, alternatives and negations.

    python -m tests.benchmarks.topics --json [--quick] [--feed tweets.csv --column text]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ingest.topics.definitions import Subject, Topics, compile_topics
from ingest.topics.reading import Reading

RULES: Final = (10, 100, 1000, 5000)
LETTERS: Final = "etaoinshrdlucmfwypvbgk"
KANA: Final = "のにはをたがでてとしれさあいうえおかきくけこ猫駅電車市東京北海道新聞天気空港"
COMMON: Final = 100
"""A rule asks for a word among the most frequent ones only now and then, as people's rules do."""


def vocabulary(chance: random.Random, size: int = 20_000) -> list[str]:
    """Made-up words, the most frequent first."""
    words = {"".join(chance.choices(LETTERS, k=chance.choice((2, 3, 4, 5, 6, 7, 8, 9)))) for _ in range(size * 2)}
    return sorted(words, key=lambda word: (len(word) // 4, word))[:size]


def made_up_posts(chance: random.Random, words: Sequence[str], count: int) -> list[Subject]:
    """About 105 characters each, as tweets are."""
    weights = [1 / (rank + 3) for rank in range(len(words))]
    posts = []
    for number in range(count):
        text = " ".join(chance.choices(words, weights, k=16)).capitalize()
        if number % 6 == 0:
            text = text.replace(" ", "’s ", 1) + " 🚋 #" + chance.choice(words)
        elif number % 6 == 1:
            text = "".join(chance.choices(KANA, k=60))
        elif number % 6 == 2:
            text = f"@{chance.choice(words)} {text}! https://example.org/{number}"
        posts.append(Subject(text, chance.choice(("en", "en", "ja", None)), f"ann{number % 500}", number % 3 == 0))
    return posts


def posts_of(path: Path, column: str) -> list[Subject]:
    with path.open(encoding="utf-8", newline="") as file:
        return [Subject(row[column], "en", row.get("name"), False) for row in csv.DictReader(file)]


def rules(chance: random.Random, words: Sequence[str], count: int) -> list[tuple[str, str]]:
    def word() -> str:
        return chance.choice(words[:COMMON] if chance.random() < 0.05 else words[COMMON:])

    forms = (
        lambda: word(),
        lambda: word(),
        lambda: f'"{word()} {word()}"',
        lambda: f"#{word()} OR @{word()}",
        lambda: " OR ".join(word() for _ in range(6)) + f" -{word()}",
        lambda: f"({word()} OR {word()}) lang:en -is:retweet",
        lambda: f"from:ann{chance.randrange(500)} has:images",
        lambda: f'"{word()} {word()}"~4 OR url:{word()}.org',
        lambda: "".join(chance.choices(KANA, k=3)),
    )
    return [(f"rule {number}", forms[number % len(forms)]()) for number in range(count)]


def posts_per_second(topics: Topics, posts: Sequence[Subject], *, seconds: float, rounds: int) -> float:
    """Median of some rounds, each of about so many seconds."""
    rates = []
    for _ in range(rounds):
        done, started = 0, time.process_time()
        while (took := time.process_time() - started) < seconds:
            for post in posts[done % len(posts) : done % len(posts) + 200]:
                topics.match(post)
                done += 1
        rates.append(done / took)
    return statistics.median(rates)


def naive_posts_per_second(definitions: list[tuple[str, str]], posts: Sequence[Subject]) -> float:
    """Every rule against every post; of many rules a few posts are enough to tell."""
    conditions = [topic.condition for topic in compile_topics(definitions).topics]
    some = posts[: max(100, 200_000 // len(conditions))]
    started = time.process_time()
    for post in some:
        reading = Reading(post)
        for condition in conditions:
            condition.matches(reading)
    return len(some) / (time.process_time() - started)


def measure(posts: Sequence[Subject], words: Sequence[str], count: int, *, quick: bool) -> dict[str, float]:
    definitions = rules(random.Random(count), words, count)
    started = time.process_time()
    topics = compile_topics(definitions)
    compiled = time.process_time() - started
    return {
        "rules": count,
        "compile_s": round(compiled, 2),
        "matches_per_post": round(statistics.fmean(len(topics.match(post)) for post in posts[:2000]), 2),
        "posts_per_s": round(posts_per_second(topics, posts, seconds=0.5 if quick else 2, rounds=3)),
        "without_index": round(naive_posts_per_second(definitions, posts)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How many posts a second one core matches against topics.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--feed", type=Path, help="a CSV file of real texts")
    parser.add_argument("--column", default="text")
    options = parser.parse_args()
    chance = random.Random(9)
    words = vocabulary(chance)
    posts = made_up_posts(chance, words, 6000)
    if options.feed is not None:
        posts = posts_of(options.feed, options.column)
        counts = Counter(word for post in posts for word in Reading(post).words)
        words = [word for word, _ in counts.most_common() if word.isalnum() and not word.isdecimal()]
    results = []
    for count in RULES:
        results.append(measure(posts, words, count, quick=options.quick))
        print("  ".join(f"{name} {value:>8,}" for name, value in results[-1].items()), file=sys.stderr)
    if options.json:
        print(json.dumps({"posts": len(posts), "feed": options.feed and options.feed.name, "results": results}))


if __name__ == "__main__":
    main()
