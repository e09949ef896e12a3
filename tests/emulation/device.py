"""The emulated device as a `Runtime`: tensors are on the CPU, kernels run at once, in an order that can be chosen.

What is given to it as steps (`Runtime.steps`) runs late: see `tests/emulation/late.py`.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cuda_ext.loader import DeviceInfo, Library, load_library
from tests.emulation.late import LateDevice, LateFunctions

HOPPER = DeviceInfo(9, 0, 4, 227 << 10, 4 << 20)
"""The card it is unless a test says otherwise, with few processors."""


class Schedule(enum.IntEnum):
    """In which order blocks, and threads between barriers, run."""

    FORWARD = 0
    REVERSE = 1
    SHUFFLED = 2


class EmulatedRuntime:
    """A `Runtime` whose kernels run on the CPU.

    Args:
        path: the emulated library (`tests.emulation.build`).

    Attributes:
        late: the device that steps were last asked of.
    """

    def __init__(self, path: Path) -> None:
        self._library = load_library(path)
        self.late = LateDevice()
        functions: Any = LateFunctions(self._library, lambda: self.late)
        self._seen = replace(self._library, functions=functions)
        self._set_schedule = self._library.functions.quire_emulation_set_schedule
        self._set_schedule.argtypes = (ctypes.c_int32, ctypes.c_uint64)
        self._set_schedule.restype = None
        self._set_card = self._library.functions.quire_emulation_set_card
        self._set_card.argtypes = (ctypes.c_void_p,)
        self._set_card.restype = None
        self._become(HOPPER)

    @property
    def library(self) -> Library:
        return self._seen

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def info(self) -> DeviceInfo:
        return self._library.device_info(0)

    def stream(self) -> int:
        return 0

    def steps(self) -> LateDevice:
        """A new device that does what it is given when somebody waits for it; earlier ones are done."""
        self.late = LateDevice()
        return self.late

    @contextmanager
    def as_card(self, major: int, minor: int, shared_kib: int) -> Iterator[None]:
        """Be another card, of this compute capability, whose blocks may have so much shared memory."""
        try:
            self._become(DeviceInfo(major, minor, HOPPER.processors, shared_kib << 10, HOPPER.l2_bytes))
            yield
        finally:
            self._become(HOPPER)

    def _become(self, card: DeviceInfo) -> None:
        self._set_card(ctypes.byref(card))
        self._library.check(self._library.functions.quire_cuda_init(0))

    @contextmanager
    def in_order(self, schedule: Schedule, seed: int = 0) -> Iterator[None]:
        """Run what is launched inside in another order; a result that changes shows a race."""
        self._set_schedule(schedule, seed)
        try:
            yield
        finally:
            self._set_schedule(Schedule.FORWARD, 0)
