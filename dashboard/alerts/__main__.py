"""Start the alert service: `python -m dashboard.alerts [--check]`; SIGTERM ends it with exit code 0."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ingest.telemetry.logs import configure

from .errors import AlertsError
from .rules import RulesFile
from .service import run
from .settings import AlertSettings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moodstream alerts", description="Alert on the mood and volume of topics, with no browser open."
    )
    parser.add_argument("--check", action="store_true", help="only say whether settings and rules can be used")
    chosen = parser.parse_args(arguments)
    try:
        settings = AlertSettings.from_env()
        configure(settings.log, plain="%(asctime)s %(levelname)s %(name)s: %(message)s")
        if chosen.check:
            rules = RulesFile(settings.rules).rules
            sys.stdout.write(f"{len(rules)} rules: {', '.join(rule.name for rule in rules)}\n")
            return 0
        asyncio.run(run(settings))
    except AlertsError as error:
        sys.stderr.write(f"moodstream alerts: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
