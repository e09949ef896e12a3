"""A device that is late: whatever is given to it happens when somebody waits for it, and no sooner.

Kernels and torch's operations are written down with their addresses, and done in order once an event behind them is
waited for. So a host buffer that is overwritten too early, a result that is read too early, or a value that a graph
took from the host when it was captured, all change what comes out. Waiting in the middle of a step is an error at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from cuda_ext.loader import Library
from engine.ops.step_device import StepEvent, StepGraph

Call = Callable[[], object]

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal")
"""Operations of torch that wait for a device to know a value."""

PREFIX = "quire_cuda_"
AT_ONCE = ("abi_version", "init", "device_info", "driver_version", "runtime_version", "error_message")
"""Functions of the library that start no kernel."""


class LateDevice:
    """A `StepDevice` on the CPU.

    Attributes:
        copies: between host and device, so far.
        waits: times the host had to wait for something that was not done yet, so far.
        allocated: operations that have made tensors while something was given to the device or captured.
        operations: of torch's that were given to the device or captured, views left out.
        launches: of kernels and operations, not counting those that graphs replay.
        replays: of graphs.
        recordings: likewise.
        host_buffers: how many there are.
        bytes_of_recording: that are no longer free after each.
        settled: whether somebody has seen to it that nothing from outside of steps is under way.
    """

    def __init__(self) -> None:
        self.copies = self.waits = self.launches = self.replays = self.host_buffers = self.recordings = 0
        self.settled = False
        self.bytes_of_recording = 1 << 10
        self.allocated: list[str] = []
        self.operations: set[str] = set()
        self._given: list[Call] = []
        self._done = 0
        self._recording: list[Call] | None = None
        self._mode = _Recording(self)
        self._kept: list[object] = []
        self._host: set[int] = set()  # where host buffers lie

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def settle(self) -> None:
        self.settled = True  # what is given outside of computing() is done at once

    def free_bytes(self) -> int:
        return (1 << 40) - self.recordings * self.bytes_of_recording

    @contextmanager
    def computing(self) -> Iterator[None]:
        assert self._recording is None, "computing() within computing()"
        assert self.settled, "a model may not be loaded yet"
        self._recording = self._given
        try:
            with self._mode:
                yield
        finally:
            self._recording = None

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        self.host_buffers += 1
        buffer = torch.zeros(nbytes, dtype=torch.uint8)
        self._host.add(_memory_of(buffer))
        return buffer

    def is_on_the_host(self, tensor: torch.Tensor) -> bool:
        """Whether it is one of the host's buffers, or a part of one."""
        return _memory_of(tensor) in self._host

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self.copies += 1
        self.give(lambda: target.copy_(source))

    def event(self) -> StepEvent:
        return _Event(self)

    def capture(self, body: Callable[[], None]) -> StepGraph:
        assert self._recording is self._given, "outside of computing()"
        self.recordings += 1
        calls: list[Call] = []
        self._recording = calls
        try:
            body()
        finally:
            self._recording = self._given
        return _Graph(self, calls)

    @property
    def recording(self) -> bool:
        """Whether what is called now is written down."""
        return self._recording is not None

    def give(self, call: Call) -> None:
        """Write a call down."""
        assert self._recording is not None, "outside of computing()"
        self.launches += 1
        self._recording.append(call)

    def keep(self, tensors: object) -> None:
        """Addresses that were written down stay good."""
        self._kept.append(tensors)

    def replay(self, calls: list[Call]) -> None:
        """Give recorded calls to the device."""
        assert self._recording is self._given, "outside of computing()"
        self.replays += 1
        self._given += calls

    @property
    def given(self) -> int:
        """How many calls there were."""
        return len(self._given)

    @property
    def done(self) -> int:
        """How many of them are done."""
        return self._done

    def run_until(self, number: int) -> None:
        """Do what was given, up to the call of this number."""
        if number > self._done:
            self.waits += 1
        while self._done < number:
            call, self._given[self._done] = self._given[self._done], _nothing
            self._done += 1
            with _disable_current_modes():
                call()


def _memory_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _nothing() -> None:
    """A call that is done."""


class _Event:
    def __init__(self, device: LateDevice) -> None:
        self._device = device
        self._behind = 0

    def record(self) -> None:
        self._behind = self._device.given

    def wait(self) -> None:
        self._device.run_until(self._behind)


class _Graph:
    def __init__(self, device: LateDevice, calls: list[Call]) -> None:
        self._device = device
        self._calls = calls

    def replay(self) -> None:
        self._device.replay(self._calls)


class _Recording(TorchDispatchMode):
    """Writes torch's operations down. Views are made at once; outputs get their memory now, and their values later."""

    def __init__(self, device: LateDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in WAITING:
            raise AssertionError(f"{name} waits for the device in the middle of a step")
        device = self._device
        device.keep((args, kwargs))
        returns = func._schema.returns
        if any(each.alias_info is not None and not each.alias_info.is_write for each in returns):
            return func(*args, **kwargs)  # a view
        written = [
            kwargs[each.name] if each.name in kwargs else args[index]
            for index, each in enumerate(func._schema.arguments)
            if each.alias_info is not None and each.alias_info.is_write
        ]
        device.operations.add(name)
        if name == "copy_" and device.is_on_the_host(args[1]) and not (args[2:] or kwargs.get("non_blocking")):
            raise AssertionError("a copy from the host waits in the middle of a step: it is not non_blocking")
        if written:
            device.give(lambda: func(*args, **kwargs))
            return written[0] if len(written) == 1 else tuple(written)
        return self._fresh(name, func, args, kwargs)

    def _fresh(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation that makes its output."""
        self._device.allocated.append(name)
        shapes_of = tree_map_only(torch.Tensor, lambda each: each.to("meta"), (args, kwargs))
        meta_kwargs = {key: value for key, value in shapes_of[1].items() if key != "device"}
        shape = func(*shapes_of[0], **meta_kwargs, **({"device": "meta"} if "device" in kwargs else {}))
        made = tree_map_only(torch.Tensor, lambda each: torch.empty(each.shape, dtype=each.dtype), shape)
        if name.startswith("empty"):
            return made

        def compute() -> None:
            found = func(*args, **kwargs)
            for target, value in zip(_flat(made), _flat(found), strict=True):
                target.copy_(value)

        self._device.keep(made)
        self._device.give(compute)
        return made


def _flat(tensors: Any) -> list[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


class LateFunctions:
    """The functions of a library; kernels started while something is given to a device are written down.

    Args:
        library: the emulated one.
        device: gives the device that kernels go to now.
    """

    def __init__(self, library: Library, device: Callable[[], LateDevice]) -> None:
        self._library = library
        self._device = device

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library.functions, name)
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in AT_ONCE:
            return function

        def call(*arguments: Any) -> int:
            device = self._device()
            if not device.recording:
                return int(function(*arguments))
            copied = [_copied(each) for each in arguments]
            device.give(lambda: self._library.check(function(*copied)))
            return 0

        setattr(self, name, call)
        return call


def _copied(argument: Any) -> Any:
    """A structure that is passed by address is read when a kernel is started, so it is kept as it is now."""
    given = getattr(argument, "_obj", None)
    if given is None:
        return argument
    return ctypes.byref(type(given).from_buffer_copy(given))
