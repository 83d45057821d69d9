"""The `moodstream` command. Errors are one line that names the thing, the value and the remedy; misuse exits with 2."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import runpy
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from deploy import backup, capacity, classify, dead_letters, doctor, evaluate, model, replay, runs, up
from deploy.errors import DeployError, MissingPart, Misuse
from ingest.errors import IngestError
from ingest.errors import Misuse as IngestMisuse

COMMANDS: Final = {
    "up": (up, "everything on this machine: broker, store, worker, dashboard and a source"),
    "replay": (replay, "an archived feed through the whole pipeline, and how right the answers were"),
    "evaluate": (evaluate, "a model on an archive, without Kafka and Redis"),
    "runs": (runs, "the replays there are: list, show, compare, pause, resume, delete"),
    "dead-letters": (dead_letters, "the records no worker could score: list, show, retry, drop"),
    "model": (model, "a new model beside the one at work: compare, switch, rollback"),
    "backup": (backup, "a copy of all that Redis holds, taken while it runs"),
    "doctor": (doctor, "whether all a deployment needs is there, and how to mend what is not"),
    "capacity": (capacity, "what a rate of posts needs in machines, money and time"),
    "classify": (classify, "score a text, a picture or a file of them"),
}
PASSED_ON: Final = {
    "ingest": ("ingest", "one source into Kafka"),
    "worker": ("inference_worker", "score posts from Kafka into Redis"),
    "dashboard": ("dashboard", "the page on what is in Redis"),
    "alerts": ("dashboard.alerts", "watch for spikes and shifts, and tell a webhook, with no browser open"),
    "record": ("ingest.record", "any source into an archive that can be replayed"),
    "train": ("training", "train a model; python -m training export makes the artifact"),
    "bench": ("training", "train the papers' systems side by side, and tell how they compare"),
    "figure": ("training", "the papers' figures from the bench's runs, as PNG and SVG"),
}
"""Commands that are another package's own; `moodstream ingest …` is `python -m ingest …`."""
TRAIN_NEEDS: Final = ("torch", "transformers", "timm")


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in PASSED_ON:
            return _pass_on(given[0], given[1:])
        return _run(given)
    except (Misuse, MissingPart, IngestMisuse) as error:
        return _complain(error, 2)
    except (DeployError, IngestError) as error:
        return _complain(error, 1)


class _Parser(argparse.ArgumentParser):
    """Complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _run(given: list[str]) -> int:
    parser = _Parser(prog="moodstream", description="Watch the mood of the topics you care about.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="name")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    for name, (_, summary) in PASSED_ON.items():
        commands.add_parser(name, help=summary, add_help=False)
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it comes back as our errors
    return int(options.run(options))


def _pass_on(name: str, rest: list[str]) -> int:
    package, summary = PASSED_ON[name]
    if name == "worker":  # all of its settings are variables
        _Parser(prog="moodstream worker", description=f"{summary}; see the README for its variables").parse_args(rest)
    if package == "training":
        missing = [module for module in TRAIN_NEEDS if importlib.util.find_spec(module) is None]
        if missing:
            raise MissingPart(f"{name} needs {', '.join(missing)}: pip install 'moodstream[train]'")
        rest = [name, *rest]
    sys.argv = [f"moodstream {name}", *rest]
    runpy.run_module(package, run_name="__main__", alter_sys=True)
    return 0


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"moodstream: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
