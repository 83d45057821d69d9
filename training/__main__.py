"""`python -m training train|teach|export|…`; the shipped model's recipe stands in training/train.py."""

import argparse
import logging
import sys
from typing import Any

from training import bench, evaluate, export, model_card, seeds, teach, train, unpacking
from training.config import BadConfig
from training.figures import command as figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules: dict[str, Any] = {
        "unpack": unpacking,
        "train": train,
        "teach": teach,
        "export": export,
        "card": model_card,
        "evaluate": evaluate,
        "seeds": seeds,
        "bench": bench,
        "figure": figure,
    }
    for name, module in modules.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        module.add_arguments(command)
        command.set_defaults(run_command=module.run)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        arguments.run_command(arguments)
    except BadConfig as error:
        sys.stderr.write(f"moodstream: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
