"""The rivals' environment: made once, by pip, from requirements.txt beside this file; not the project's."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[4]
FOLDER: Final = ROOT / ".moodstream" / "bench-venv"
REQUIREMENTS: Final = Path(__file__).parent / "requirements.txt"


def ensure() -> Path:
    """Python of the environment, made anew where the requirements have changed. Raises CalledProcessError."""
    stamp, wanted = FOLDER / "requirements.txt", REQUIREMENTS.read_text()
    python = FOLDER / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making {FOLDER} with LitServe, BentoML and OpenVINO", file=sys.stderr)
        venv.create(FOLDER, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return python
