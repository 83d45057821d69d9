"""`python -m training train|export|evaluate`; the recipe stands in training/train.py."""

import argparse
import logging

from training import evaluate, export, train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training")
    commands = parser.add_subparsers(required=True, metavar="train | export | evaluate")
    for name, module in (("train", train), ("export", export), ("evaluate", evaluate)):
        command = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        module.add_arguments(command)
        command.set_defaults(run_command=module.run)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    arguments.run_command(arguments)


if __name__ == "__main__":
    main()
