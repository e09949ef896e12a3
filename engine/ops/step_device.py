"""A device that computes while the host goes on: what a runner needs of it besides kernels.

Everything that is given to it happens on one stream, in the order in which it was given. Only waiting for an event
waits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch


class StepEvent(Protocol):
    """A place in what a device was given to do."""

    def record(self) -> None:
        """Stand behind everything given to the device so far."""
        ...

    def wait(self) -> None:
        """Return once the device has got there; at once where the event was never recorded.

        Raises:
            RuntimeError: something before it has failed.
        """
        ...


class StepGraph(Protocol):
    """Kernels with their arguments, recorded once and started by one call."""

    def replay(self) -> None:
        """Give all of it to the device once more. Addresses are the recorded ones; what lies there is read anew."""
        ...


class StepDevice(Protocol):
    """The device. `engine/ops/cuda_step_device.py` is a real one; the tests have one that runs late."""

    @property
    def device(self) -> torch.device: ...

    def settle(self) -> None:
        """Wait until everything is done that was given to it outside of `computing`, such as loading a model."""
        ...

    def free_bytes(self) -> int:
        """Memory of the device that nobody has taken."""
        ...

    def computing(self) -> AbstractContextManager[object]:
        """What ops do inside goes to the stream."""
        ...

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Host memory that the device reads and writes by itself; uint8, zeros."""
        ...

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy between a host buffer and the device, in the order of the stream. Neither may change meanwhile."""
        ...

    def event(self) -> StepEvent:
        """A new event."""
        ...

    def capture(self, body: Callable[[], None]) -> StepGraph:
        """Record what `body` gives to the device, which does none of it now. To be called inside `computing`.

        `body` must have run before, neither allocate nor wait, and take from the host only what never changes.
        """
        ...
