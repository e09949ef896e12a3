"""Marks around an engine's steps, on a card whose clock moves by what it is given to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import pytest

from benchmarks.gpu.card import Card, Mark
from benchmarks.gpu.marked_steps import REPLAYS, MarkedSteps
from engine.ops.step_device import StepDevice, StepGraph


@dataclass
class _Clock:
    time: float = 0.0


@dataclass
class _Mark:
    time: float

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, _Mark)
        return self.time - earlier.time


@dataclass
class _Card:
    clock: _Clock

    def mark(self) -> Mark:
        return _Mark(self.clock.time)


@dataclass
class _Graph:
    clock: _Clock

    def replay(self) -> None:
        self.clock.time += 3


@dataclass
class _Device:
    clock: _Clock

    def computing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def capture(self, body: Callable[[], None]) -> StepGraph:
        body()
        return _Graph(self.clock)


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def steps(clock: _Clock) -> MarkedSteps:
    return MarkedSteps(cast("Card", _Card(clock)), cast("StepDevice", _Device(clock)))


def test_a_recording_is_timed_without_what_happens_around_it(clock: _Clock, steps: MarkedSteps) -> None:
    graph = steps.capture(lambda: None)
    with steps.computing():
        clock.time += 1  # a copy, or a host that is late within a step
        graph.replay()
    ((begin, end),) = steps.steps
    assert end.seconds_since(begin) == 4
    assert steps.replay_seconds() == 3
    assert clock.time == 4 + 3 * (1 + REPLAYS)
    assert len(steps.steps) == 1, "replays are no steps"


def test_a_step_that_ran_kernel_by_kernel_has_no_recording(steps: MarkedSteps) -> None:
    graph = steps.capture(lambda: None)
    with steps.computing():
        graph.replay()
    with steps.computing():
        pass
    assert steps.latest is None
    with pytest.raises(RuntimeError, match="not a recorded one"):
        steps.replay_seconds()
