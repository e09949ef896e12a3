"""The card that is measured, as what the stages need of it; the tests have one that is emulated."""

from __future__ import annotations

import ctypes
import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.gpu.probes import build_probes
from engine.ops.cuda_runtime import CudaRuntime, Runtime


class Mark(Protocol):
    """A moment on the card's clock, between two pieces of its work."""

    def seconds_since(self, earlier: Mark) -> float:
        """Waits until the card has reached both."""
        ...


class Card(Protocol):
    """A card; its kernels are loaded when they are first asked for."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, major and minor."""
        ...

    @property
    def device(self) -> torch.device: ...

    def mark(self) -> Mark:
        """The moment when the current stream has done all that it was given so far."""
        ...

    def captured(self, body: Callable[[], None]) -> Callable[[], object]:
        """Run `body` once, then record it; what is returned replays it."""
        ...

    def refusing_to_wait(self) -> AbstractContextManager[object]:
        """Inside, operations of torch fail that make the host wait for the card; events may still be waited for."""
        ...

    def free_bytes(self) -> int:
        """Memory of the card that is free, once what nobody uses is given back."""
        ...

    def probes(self) -> ctypes.CDLL:
        """The probes of tests/emulation/probes.cu, built for the card."""
        ...


class CudaCard:
    """The current CUDA device."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graphs: list[torch.cuda.CUDAGraph] = []

    @cached_property
    def runtime(self) -> Runtime:
        return CudaRuntime()

    @property
    def capability(self) -> tuple[int, int]:
        major, minor = torch.cuda.get_device_capability()
        return major, minor

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device())

    def mark(self) -> Mark:
        return _CudaMark()

    def captured(self, body: Callable[[], None]) -> Callable[[], object]:
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            body()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            body()
        # one that goes may take along what cuBLAS keeps for the stream, which all others recorded there still use
        self._graphs.append(graph)
        return graph.replay

    @contextmanager
    def refusing_to_wait(self) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def free_bytes(self) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])

    def probes(self) -> ctypes.CDLL:
        with tempfile.TemporaryDirectory() as folder:
            return ctypes.CDLL(str(build_probes(Path(folder))))


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
