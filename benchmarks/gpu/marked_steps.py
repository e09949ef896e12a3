"""The device of an engine's steps, with marks on the card's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.gpu.card import Card, Mark
from engine.ops.step_device import StepDevice, StepEvent, StepGraph

REPLAYS = 20
"""Of a recording that is timed by itself."""


@dataclass
class MarkedSteps:
    """A `StepDevice` that notes when the card begins and ends each step, and how long the host waits for it.

    Attributes:
        card: keeps the time.
        inner: the device.
        steps: begin and end of every step since the last time this was emptied.
        waited: seconds the host has waited, likewise.
        latest: the recording that the latest step has replayed; None where it ran kernel by kernel.
    """

    card: Card
    inner: StepDevice
    steps: list[tuple[Mark, Mark]] = field(default_factory=list)
    waited: float = 0.0
    latest: StepGraph | None = None

    @property
    def device(self) -> torch.device:
        """As `StepDevice`; so are the others."""
        return self.inner.device

    def settle(self) -> None:
        self.inner.settle()

    def free_bytes(self) -> int:
        return self.inner.free_bytes()

    def computing(self) -> AbstractContextManager[object]:
        return self._marked()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        with self.inner.computing():
            self.latest = None
            begin = self.card.mark()
            yield
            self.steps.append((begin, self.card.mark()))

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        return self.inner.host_buffer(nbytes)

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self.inner.copy(source, target)

    def event(self) -> StepEvent:
        return _TimedEvent(self, self.inner.event())

    def capture(self, body: Callable[[], None]) -> StepGraph:
        return _NotedGraph(self, self.inner.capture(body))

    def replay_seconds(self) -> float:
        """Time of the latest step's recording on the card when it is replayed again and again, and nothing else.

        All that it reads still lies there; what it samples takes the place of what it did.

        Raises:
            RuntimeError: the latest step was none of the recorded.
        """
        if self.latest is None:
            raise RuntimeError("the latest step was not a recorded one")
        with self.inner.computing():
            self.latest.replay()
            begin = self.card.mark()
            for _ in range(REPLAYS):
                self.latest.replay()
            end = self.card.mark()
        return end.seconds_since(begin) / REPLAYS

    def forget(self) -> None:
        """Begin anew."""
        self.steps.clear()
        self.waited = 0.0


class _NotedGraph:
    def __init__(self, steps: MarkedSteps, inner: StepGraph) -> None:
        self._steps = steps
        self._inner = inner

    def replay(self) -> None:
        self._steps.latest = self
        self._inner.replay()


class _TimedEvent:
    def __init__(self, steps: MarkedSteps, inner: StepEvent) -> None:
        self._steps = steps
        self._inner = inner

    def record(self) -> None:
        self._inner.record()

    def wait(self) -> None:
        before = time.perf_counter()
        self._inner.wait()
        self._steps.waited += time.perf_counter() - before
