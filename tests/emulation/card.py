"""The emulated device as a `Card` of benchmarks/gpu: it is right, and its times mean nothing."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from benchmarks.gpu.card import Mark
from tests.emulation.device import EmulatedRuntime


class EmulatedCard:
    """The card."""

    def __init__(self, runtime: EmulatedRuntime) -> None:
        self.runtime = runtime

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def capability(self) -> tuple[int, int]:
        info = self.runtime.info
        return info.capability_major, info.capability_minor

    def mark(self) -> Mark:
        return _Mark()

    def captured(self, body: Callable[[], None]) -> Callable[[], object]:
        body()
        return body

    def refusing_to_wait(self) -> AbstractContextManager[object]:
        return nullcontext()  # a step that waits fails on a late device in any case

    def free_bytes(self) -> int:
        return 1 << 40

    def probes(self) -> ctypes.CDLL:
        return self.runtime.library.functions


class _Mark:
    def __init__(self) -> None:
        self.time = time.perf_counter()

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, _Mark)
        return max(self.time - earlier.time, 1e-9)
