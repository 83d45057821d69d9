"""How busy the GPU was and how much of its memory was taken while something ran, by the driver's own account."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType
from typing import Final

SAMPLE_EVERY_MS: Final = 100


class GpuUsage:
    """`with`, then `found`: busy_share from the first busy sample to the last, memory_mb of all processes at the peak.

    Empty without a GPU, and where the driver does not tell (MIG).
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> GpuUsage:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
        query = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
        command = ["nvidia-smi", f"--id={first}", *query, f"--loop-ms={SAMPLE_EVERY_MS}"]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            self._process = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self.found = summed_up(self._process.communicate()[0])


def summed_up(samples: str) -> dict[str, float]:
    """Lines of percent and MiB; the last is empty or cut off."""
    rows = [line.split(", ") for line in samples.split("\n")[:-1]]
    percents = [int(percent) for percent, _ in rows if percent.isdecimal()]
    busy = [at for at, percent in enumerate(percents) if percent]
    if not busy:
        return {}
    watched = percents[busy[0] : busy[-1] + 1]
    return {"busy_share": sum(watched) / len(watched) / 100, "memory_mb": max(float(memory) for _, memory in rows)}
