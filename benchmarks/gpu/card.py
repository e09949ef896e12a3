"""The card that is measured, as what the stages need of it; the tests have one that is emulated."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

import torch

from engine.ops.cuda_runtime import CudaRuntime, Runtime


class Mark(Protocol):
    """A moment on the card's clock, between two pieces of its work."""

    def seconds_since(self, earlier: Mark) -> float:
        """Waits until the card has reached both."""
        ...


class Card(Protocol):
    """A card with its kernels loaded."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def device(self) -> torch.device: ...

    def mark(self) -> Mark:
        """The moment when the current stream has done all that it was given so far."""
        ...

    def captured(self, body: Callable[[], None]) -> Callable[[], object]:
        """Run `body` once, then record it; what is returned replays it."""
        ...

    def free_bytes(self) -> int:
        """Memory of the card that is free, once what nobody uses is given back."""
        ...


class CudaCard:
    """The current CUDA device."""

    def __init__(self) -> None:
        self._runtime = CudaRuntime()

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def device(self) -> torch.device:
        return self._runtime.device

    def mark(self) -> Mark:
        return _CudaMark()

    def captured(self, body: Callable[[], None]) -> Callable[[], object]:
        body()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
        return graph.replay

    def free_bytes(self) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])


class _CudaMark:
    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record()

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, _CudaMark)
        self.event.synchronize()
        return float(earlier.event.elapsed_time(self.event)) / 1000


def seconds(card: Card, call: Callable[[], object], calls: int) -> float:
    """Time of one call on the card, averaged over some; one more is made before."""
    call()
    begin = card.mark()
    for _ in range(calls):
        call()
    return card.mark().seconds_since(begin) / calls
