"""`moodstream doctor`: what a deployment needs, each thing looked at by itself, and how to mend what is amiss.

A line per check: `ok|warn|fail  name  what was found  -> remedy`. Exit code 0 if nothing fails, 1 if something does.
Kafka and Redis are those of MOODSTREAM_KAFKA and MOODSTREAM_REDIS, as the services read them.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from deploy.arguments import port
from deploy.errors import Misuse
from deploy.printing import print_json, print_line, shown

if TYPE_CHECKING:
    from deploy.checks.finding import Check, Deployment, Finding

NAME_WIDTH: Final = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="only this one (again for more)")
    parser.add_argument("--port", type=port, default=8501, help="port of the dashboard (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object, last on stdout")


def run(options: argparse.Namespace) -> int:
    chosen = _chosen(options.only)
    found: list[tuple[Check, Finding]] = []
    for check, finding in findings(chosen, _deployment(options.port)):
        found.append((check, finding))
        if not options.json:
            remedy = f"  -> {shown(finding.remedy)}" if finding.remedy else ""
            print_line(f"{finding.level:4}  {check.name:{NAME_WIDTH}}{shown(finding.found)}{remedy}")
    failed = sum(finding.level == "fail" for _, finding in found)
    if options.json:
        rows = [{"name": check.name, **finding._asdict()} for check, finding in found]
        print_json({"ok": not failed, "failed": failed, "checks": rows})
    return 1 if failed else 0


def findings(checks: Sequence[Check], deployment: Deployment) -> Iterator[tuple[Check, Finding]]:
    """All at once, in threads that nobody waits for beyond their time; in the order given."""
    looks = [_Look(check, deployment) for check in checks]
    for look in looks:
        yield look.check, look.finding()


class _Look:
    """A check under way."""

    def __init__(self, check: Check, deployment: Deployment) -> None:
        self.check = check
        self._found: Finding | None = None
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._look, args=(deployment,), name=check.name, daemon=True)
        self._thread.start()

    def _look(self, deployment: Deployment) -> None:
        from deploy.checks.finding import CannotTell, fail

        try:
            self._found = self.check.look(deployment)
        except CannotTell as told:
            self._found = told.finding
        except Exception as error:  # one broken check does not hide the others
            self._found = fail(f"{type(error).__name__}: {error}", "this check itself broke down: tell its authors")

    def finding(self) -> Finding:
        """Waits for what is left of its time."""
        from deploy.checks.finding import fail

        self._thread.join(max(0.0, self._began_s + self.check.timeout_s - time.monotonic()))
        late = f"no answer within {self.check.timeout_s:g} s"
        return self._found or fail(late, "see that what it asks is there, and not overloaded")


def _chosen(names: Sequence[str]) -> Sequence[Check]:
    from deploy.checks import kafka, machine, services, store

    checks = (*machine.CHECKS, *kafka.CHECKS, *store.CHECKS, *services.CHECKS)
    for name in names:
        if name not in {check.name for check in checks}:
            raise Misuse(f"--only {name}: use one of {', '.join(check.name for check in checks)}")
    return [check for check in checks if not names or check.name in names]


def _deployment(dashboard_port: int) -> Deployment:
    """Raises Misuse, ours or ingest's, naming a variable that cannot be used."""
    from deploy.checks.finding import Deployment
    from inference_worker.settings import Settings as WorkerSettings
    from ingest.settings import Settings as IngestSettings

    try:
        worker = WorkerSettings.from_env()
    except ValueError as error:
        raise Misuse(str(error)) from error
    return Deployment(worker=worker, ingest=IngestSettings.from_env(), dashboard_port=dashboard_port)
