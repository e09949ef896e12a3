"""Requests that run out of time: waiting or running, they fail, free what they hold and leave the others alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InvalidRequestError
from engine.scheduling.deadlines import Deadlines
from tests.engine.test_core import expected
from tests.fakes.toy_engine import choice_tokens, request, run, toy_engine


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("steps", range(5))  # queued, in the prompt's chunks, in the answer
def test_a_request_fails_when_its_time_is_over_and_frees_its_blocks(steps: int) -> None:
    clock = Clock()
    engine = toy_engine(max_num_batched_tokens=8, clock=clock)
    engine.core.add(replace(request("late", list(range(2, 22)), max_tokens=50, n=2), timeout=3.0))
    for _ in range(steps):
        assert not engine.core.step().failures
    clock.now += 3.0
    output = engine.core.step()
    assert [(each.request_id, each.kind) for each in output.failures] == [("late", "DeadlineExceededError")]
    assert "timeout" in output.failures[0].message
    assert not output.deltas
    assert not engine.core.has_work
    assert engine.blocks.num_used == 0
    assert not engine.core.step().failures


def test_the_others_go_on_as_if_nothing_had_been() -> None:
    clock = Clock()
    engine = toy_engine(clock=clock, max_num_seqs=1)
    engine.core.add(request("other", [5, 6], max_tokens=10))
    engine.core.add(replace(request("waits", [5, 7], max_tokens=10), timeout=0.5))
    first = engine.core.step()
    clock.now += 1.0
    deltas, failures = run(engine.core)
    assert [each.request_id for each in failures] == ["waits"]
    assert choice_tokens([*first.deltas, *deltas["other"]]) == expected([5, 6], 10)


def test_the_engines_timeout_holds_where_a_request_has_none() -> None:
    clock = Clock()
    engine = toy_engine(clock=clock, request_timeout=2.0)
    engine.core.add(request("default", [5, 6], max_tokens=100))
    engine.core.add(replace(request("longer", [5, 7], max_tokens=100), timeout=9.0))
    clock.now += 2.0
    assert [each.request_id for each in engine.core.step().failures] == ["default"]
    clock.now += 7.0
    assert [each.request_id for each in engine.core.step().failures] == ["longer"]


def test_an_ended_request_leaves_no_deadline_for_the_next_of_its_name() -> None:
    clock = Clock()
    engine = toy_engine(clock=clock)
    for ended in ("by itself", "aborted"):
        engine.core.add(replace(request("a", [5, 6], max_tokens=2), timeout=1.0))
        if ended == "aborted":
            engine.core.abort("a")
        run(engine.core)
    engine.core.add(request("a", [5, 6], max_tokens=2))
    clock.now += 5.0
    assert not run(engine.core)[1]


def test_a_timeout_must_be_a_time() -> None:
    for timeout in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidRequestError, match="timeout must be above 0"):
            replace(request("a", [5]), timeout=timeout)


def test_deadlines_of_ended_requests_take_no_room() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(str(number), 1e6)
        deadlines.forget(str(number))
    assert len(deadlines._heap) < 100
    deadlines.set("last", 2.0)
    deadlines.set("first", 1.0)
    assert deadlines.pop_expired(0.5) == []
    assert deadlines.pop_expired(2.0) == ["first", "last"]
    assert deadlines.pop_expired(1e9) == []
