"""A module at one shape of its inputs as a CUDA graph: however many kernels it has, running it is one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

WARM_UPS: Final = 2
"""Runs before the capture, in which libraries choose algorithms and take their memory."""


class Captured:
    """Runs on the stream it is called on, one at a time; its outputs are good until another graph of its pool runs.

    inputs: where it will read from, and what the warm-up reads.
    Raises torch.OutOfMemoryError where there is no room for what it holds while it runs.
    """

    def __init__(self, module: Callable[..., Any], inputs: Sequence[Tensor], *, stream: Any, pool: Any) -> None:
        self._inputs = inputs
        stream.wait_stream(torch.cuda.current_stream())  # where the inputs and the weights were made
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                module(*inputs)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._outputs: tuple[Tensor, ...] = module(*inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._outputs
