"""The current CUDA device, with a stream of its own for the steps of one engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from engine.ops.step_device import StepEvent, StepGraph


class CudaStepDevice:
    """A `StepDevice`. All graphs share one pool of memory, so they must be replayed on its stream only.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def device(self) -> torch.device:
        return self._device

    def settle(self) -> None:
        torch.cuda.synchronize(self._device)  # streams of torch's do not wait for the default one

    def free_bytes(self) -> int:
        torch.cuda.empty_cache()  # what torch keeps for later is free, too, and a capture gives it back in any case
        return int(torch.cuda.mem_get_info(self._device)[0])

    def computing(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def event(self) -> StepEvent:
        return _Event(self._stream)

    def capture(self, body: Callable[[], None]) -> StepGraph:
        graph = torch.cuda.CUDAGraph()
        # by default a capture makes what other threads of the process ask of the driver fail, and fails with them
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            body()
        return graph


class _Event:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def record(self) -> None:
        self._event.record(self._stream)

    def wait(self) -> None:
        self._event.synchronize()
