"""`moodstream figure`: the papers' figures from our models, each as NAME.png and NAME.svg.

    moodstream figure seeds confusion layers thresholds branches                 from the bench's lines of results
    moodstream figure private scores --run FOLDER --mvsa mvsa_single.parquet     from the weights of one run
    moodstream figure reliability coverage --artifact DIR --mvsa mvsa_single.parquet --tweets tweet_sentiment.parquet

A figure of one post holds its words and its picture: who may see them is its data set's to say.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from training.bench import RESULTS, add_data_arguments, read_results
from training.config import BadConfig
from training.figures.certainty import Answers, artifact_answers, coverage, reliability
from training.figures.clouds import distances, tsne
from training.figures.drawing import Figure, write
from training.figures.post_maps import attention, private, scores
from training.figures.sweeps import branches, layers, thresholds
from training.figures.systems import confusion, seeds
from training.figures.trained import TrainedRun, open_run
from training.table import read_table

log = logging.getLogger(__name__)

NAMES: Final = {
    "seeds": "every system's accuracy, a dot a seed",
    "confusion": "what a system takes for what",
    "layers": "CLMLF over its layers",
    "thresholds": "SPP-SCL over its threshold",
    "branches": "MDSE with each private branch removed",
    "attention": "where CLMLF's words look in a post's picture",
    "tsne": "a run's fused features in two dimensions",
    "distances": "SPP-SCL's distances within and between modalities",
    "private": "what MDSE keeps as private to a post's picture and words",
    "scores": "MDSE's scores of a post with each private branch removed",
    "reliability": "an artifact's accuracy over its confidence",
    "coverage": "an artifact's accuracy over the share of posts it answers",
}
"""The first five need lines of results alone, the last two an artifact, the others a run's weights and its corpus."""
OF_ARTIFACTS: Final = {"reliability": reliability, "coverage": coverage}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "; ".join(f"{name}: {what}" for name, what in NAMES.items())
    parser.add_argument("names", nargs="+", metavar="NAME", help=told)
    parser.add_argument("--out", type=Path, default=Path(".moodstream/figures"), help="folder (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="lines of runs (default: %(default)s)")
    parser.add_argument("--table", default="mvsa_single", help="of seeds and confusion (default: %(default)s)")
    parser.add_argument("--row", help="of confusion: a row of the table (default: the best on validation)")
    parser.add_argument("--run", type=Path, help="a folder that bench --checkpoints made")
    parser.add_argument("--post", metavar="ID", help="of attention, private and scores (default: the first test post)")
    parser.add_argument("--head", type=int, help="of attention: one head, from 1 (default: the mean of all)")
    parser.add_argument("--artifact", type=Path, help="of reliability and coverage: a folder that an export wrote")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet, for what an artifact says of texts")
    parser.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="of MVSA-Single (default: %(default)s)"
    )
    add_data_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        if name not in NAMES:
            raise BadConfig(f"figure {name!r} is none of {', '.join(NAMES)}")

    @cache
    def trained() -> TrainedRun:
        return open_run(arguments.run, arguments)

    @cache
    def answers() -> dict[str, Answers]:
        return artifact_answers(arguments)

    for name in arguments.names:
        figure = OF_ARTIFACTS[name](answers()) if name in OF_ARTIFACTS else build(name, arguments, trained)
        if figure.missing:
            log.warning("%s: %s", name, figure.missing)
        png, svg = write(figure.told_by(f"Drawn by: {_command(name, arguments)}"), arguments.out)
        sys.stdout.write(f"{png}\n{svg}\n")


def build(name: str, arguments: argparse.Namespace, trained: Callable[[], TrainedRun]) -> Figure:
    """trained: opens the run whose weights a figure needs; those of results alone never ask for it."""
    match name:
        case "seeds":
            return seeds(read_table(arguments.table), read_results(arguments.results))
        case "confusion":
            return confusion(read_table(arguments.table), read_results(arguments.results), arguments.row)
        case "layers":
            return layers(read_table("ablation_clmlf"), read_results(arguments.results))
        case "thresholds":
            return thresholds(read_table("ablation_spp_scl"), read_results(arguments.results))
        case "branches":
            return branches(read_table("ablation_mdse"), read_results(arguments.results))
        case "tsne":
            return tsne(trained())
        case "distances":
            return distances(trained())
        case "attention":
            return attention(trained(), trained().post(arguments.post), arguments.head)
        case "private":
            return private(trained(), trained().post(arguments.post))
        case "scores":
            return scores(trained(), trained().post(arguments.post))
    raise BadConfig(f"figure {name!r} is none of {', '.join(NAMES)}")


def _command(name: str, arguments: argparse.Namespace) -> str:
    """What draws this figure again; files by their names, wherever they lie."""
    given = ["moodstream", "figure", name]
    if name in ("seeds", "confusion"):
        given += ["--table", arguments.table, *(["--row", arguments.row] if arguments.row else [])]
    elif name in OF_ARTIFACTS:
        given += ["--artifact", arguments.artifact.name, "--split", arguments.split]
        for option in ("mvsa", "tweets"):
            if path := getattr(arguments, option):
                given += [f"--{option}", path.name]
    elif arguments.run is not None and name not in ("layers", "thresholds", "branches"):
        given += ["--run", arguments.run.name]
        for option in ("mvsa", "memotion"):
            if path := getattr(arguments, option):
                given += [f"--{option}", path.name]
        if arguments.post and name not in ("tsne", "distances"):
            given += ["--post", arguments.post]
        if arguments.head and name == "attention":
            given += ["--head", str(arguments.head)]
    return shlex.join(given)
