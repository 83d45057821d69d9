"""Known holes in what the lock files pin: `python -m deploy.audit [pip-audit's options]` (`make audit`).

Exit code 0: asked, and none; 1: holes, a line each; 3: nobody could be asked. pip-audit alone takes a mirror of PyPI
that knows no advisories for one without holes, and ends with 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from deploy.printing import print_line, shown

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ("requirements.txt", "requirements-dev.txt", "requirements-train.txt")
HOLES: Final = 1
NOT_AUDITED: Final = 3
REMEDY: Final = (
    "see that pypi.org can be reached, ask OSV (make audit ARGS='-s osv'), or leave it to a machine that can"
)


def main(arguments: Sequence[str] | None = None) -> int:
    done = _asked(sys.argv[1:] if arguments is None else arguments)
    try:
        pins: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return _not_audited(f"pip-audit could not ask: {said[-1]}")
    for line in _holes(pins):
        print_line(line)
    if any(pin.get("vulns") for pin in pins):
        return HOLES
    if skipped := [pin["name"] for pin in pins if "skip_reason" in pin]:
        more = "" if len(skipped) < 4 else " …"
        return _not_audited(f"no advisories for {len(skipped)} of {len(pins)} pins ({', '.join(skipped[:3])}{more})")
    print_line(f"audit: no known holes in {len(pins)} pins")
    return 0


def _asked(options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Of the pins as they are, those for other machines left out."""
    locks = [word for lock in LOCKS for word in ("--requirement", str(ROOT / lock))]
    command = [sys.executable, "-m", "pip_audit", *locks, "--no-deps", "--disable-pip", "--format", "json"]
    return subprocess.run(
        [*command, "--progress-spinner", "off", *options], capture_output=True, text=True, check=False
    )


def _holes(pins: Sequence[dict[str, Any]]) -> Iterator[str]:
    for pin in pins:
        for hole in pin.get("vulns", ()):
            known = ", ".join([hole["id"], *hole["aliases"]])
            mended = f"fixed in {' or '.join(hole['fix_versions'])}" if hole["fix_versions"] else "no fix yet"
            remedy = "raise its range in pyproject.toml, then deploy/lock.sh --upgrade-package"
            yield shown(f"audit: {pin['name']} {pin['version']}: {known}: {mended}: {remedy} {pin['name']}")


def _not_audited(why: str) -> int:
    sys.stderr.write(f"audit: NOT AUDITED: {shown(why)}: {REMEDY}\n")
    return NOT_AUDITED


if __name__ == "__main__":
    sys.exit(main())
