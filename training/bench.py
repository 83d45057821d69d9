"""`moodstream bench`: a table of runs, each noted as one line of results.jsonl; RESULTS.md is written from those.

A bench goes on where it stopped, also on another machine: a run whose line is there is not made again.

    moodstream bench mvsa_single --mvsa mvsa_single.parquet          all runs of training/tables/mvsa_single.toml
    moodstream bench --render                                        RESULTS.md from what is there
    moodstream bench mvsa_single --only MDSE --seeds 1 --checkpoints runs --mvsa …   the weights of one run, for figures
"""

import argparse
import json
import logging
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training.augmentation import Augmentation, nearest_words
from training.config import GRID, SMALL, BadConfig
from training.datasets.example import Corpus
from training.datasets.memotion import read_memotion
from training.datasets.mvsa import read_mvsa
from training.datasets.splitting import twin_free_split
from training.datasets.twins import twins_in
from training.feature_cache import FrozenEncoders, feature_cache
from training.one_run import Bench, run_once
from training.results import render
from training.systems import FLOORS
from training.table import SHIPPED, TABLES, Table, read_table
from training.weights import MissingWeights

log = logging.getLogger(__name__)

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results.jsonl"
REPORT: Final = HERE / "RESULTS.md"
LINE: Final = "line.json"
"""What a folder of checkpoints holds of its run once it is whole: its line of the results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="shipped tables by name, or TOML files")
    add_data_arguments(parser)
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines of runs (default: %(default)s)")
    parser.add_argument("--report", type=Path, default=REPORT, help="what is written from them (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help="so many seeds instead of the table's own number")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="only this row; again for more")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help="keep each run's weights in a folder of its own in this one; made again for them",
    )
    parser.add_argument("--logs", type=Path, help="folder for a CSV of each run's epochs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--render", action="store_true", help="write the report from what is there, and run nothing")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What `open_bench` asks for."""
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single: Parquet or the owners' folder")
    parser.add_argument("--memotion", type=Path, help="Memotion 7k: Parquet or the owners' folder")
    parser.add_argument(
        "--weights",
        type=Path,
        default=os.environ.get("MOODSTREAM_WEIGHTS"),
        help="a folder an encoder of the papers, such as roberta-base/ (default: MOODSTREAM_WEIGHTS, else the hub)",
    )
    parser.add_argument("--cache", type=Path, default=Path(".moodstream/features"), help="folder of frozen states")


def run(arguments: argparse.Namespace) -> None:
    tables = [read_table(name) for name in arguments.tables]
    torch.set_num_threads(arguments.threads)
    if not arguments.render:
        if not tables:
            raise BadConfig(f"nothing to run: name a table of {', '.join(file.stem for file in TABLES.glob('*.toml'))}")
        for table in tables:
            run_table(table, arguments)
    shipped = [read_table(name) for name in SHIPPED]
    arguments.report.write_text(render(shipped, read_results(arguments.results)), encoding="utf-8")


def run_table(table: Table, arguments: argparse.Namespace) -> None:
    """Make the runs of a table that are not there yet, and note each as it is done.

    A run that is noted, but whose weights are asked for and not there, is made again for them and not noted twice.
    Rows whose encoders' weights are missing are told and left out, but for those asked for by name.
    """
    done = {line["key"] for line in read_results(arguments.results)}
    benches: dict[tuple[str, str], Bench] = {}
    missing: set[tuple[str, str]] = set()
    for row, config, seed in table.runs():
        if (arguments.only and row.name not in arguments.only) or (arguments.seeds and seed > arguments.seeds):
            continue
        key = config.key(table.corpus, table.split, seed)
        name = f"{re.sub(r'[^a-z0-9]+', '-', row.name.lower())}-seed-{seed}-{key}"
        folder = arguments.checkpoints / name if arguments.checkpoints and config.system not in FLOORS else None
        if config.encoders in missing or (key in done and (folder is None or (folder / LINE).exists())):
            continue
        try:
            if config.encoders not in benches:
                benches[config.encoders] = open_bench(table, arguments, config.encoders)
        except MissingWeights as error:
            if row.name in arguments.only:
                raise
            alike = [one.name for one in table.rows if one.config and one.config.encoders == config.encoders]
            log.warning("%s: left out %s: %s", table.name, " and ".join(f"“{name}”" for name in alike), error)
            missing.add(config.encoders)
            continue
        bench = benches[config.encoders]
        log.info("%s: %s, seed %d", table.name, row.name, seed)
        log_file = arguments.logs / f"{name}.csv" if arguments.logs else None
        line = run_once(config, bench, seed=seed, folder=folder, log_file=log_file) | _where()
        _note(line, None if key in done else arguments.results, folder)
        test = line["test"]
        log.info(
            "%s, seed %d: accuracy %.1f, weighted F1 %.1f, %.0f s",
            row.name, seed, 100 * test["accuracy"], 100 * test["weighted_f1"], line["seconds"],
        )  # fmt: skip


def _note(line: dict[str, Any], results: Path | None, folder: Path | None) -> None:
    """folder: of the run's weights, whole once it holds the line."""
    if results is not None:
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    if folder is not None:
        (folder / LINE).write_text(json.dumps(line), encoding="utf-8")
        log.info("weights in %s", folder)


def open_bench(table: Table, arguments: argparse.Namespace, names: tuple[str, str] = SMALL) -> Bench:
    """The table's corpus with its states by the text and image encoder named.

    Raises   BadConfig if its data was not given, MissingWeights if an encoder's are nowhere
    """
    if names == SMALL:
        encoders, synonyms = small_encoders()
    else:
        from training.paper_encoders import frozen_encoders

        encoders = frozen_encoders(*names, arguments.weights)
        _, synonyms = small_encoders()
    corpus = read_corpus(table.corpus, arguments)
    if table.split == "twin-free":
        corpus.splits = twin_free_split([row for rows in corpus.splits.values() for row in rows], seed=0)
    examples = [example for rows in corpus.splits.values() for example in rows]
    states = feature_cache(
        encoders,
        examples,
        views=table.views,
        augmentation=Augmentation(synonyms=synonyms),
        folder=arguments.cache,
        grid=GRID,
    )
    twins = twins_in(corpus.splits["train"], corpus.splits["test"])
    return Bench(
        name=table.corpus,
        split=table.split,
        corpus=corpus,
        cache=states,
        is_twin=np.array(twins),
        encoders=encoders.name,
    )


def read_corpus(name: str, arguments: argparse.Namespace) -> Corpus:
    readers = {
        "mvsa_single": (arguments.mvsa, "--mvsa", read_mvsa),
        "memotion": (arguments.memotion, "--memotion", read_memotion),
    }
    if name not in readers:
        raise BadConfig(f"corpus {name!r} is none of {', '.join(readers)}")
    path, option, read = readers[name]
    if path is None:
        raise BadConfig(f"{name} is needed: give {option}")
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise BadConfig(f"cannot read {option} {path}: {error}") from error


@cache
def small_encoders() -> tuple[FrozenEncoders, dict[str, list[str]]]:
    """Preset `small`, frozen, and the synonyms its input embeddings know: those of all other encoders, too."""
    from training.encoders import small_image_encoder, small_text_encoder, small_tokenizer

    text, image = small_text_encoder().eval(), small_image_encoder().eval()
    tokenizer = small_tokenizer()
    encoders = FrozenEncoders("small", lambda words: tokenizer.encode(words).ids, text.layers, image)
    embeddings = text.bert.embeddings.word_embeddings.weight.detach()
    return encoders, nearest_words(tokenizer.get_vocab(), embeddings)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Lines of runs; the later of two of the same key counts."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return list({line["key"]: line for line in lines}.values())


def _where() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "commit": commit.stdout.strip(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
