"""Where the time of a request went, as its first and last delta say."""

from __future__ import annotations

import pytest

from engine.scheduling.batch import ScheduledBatch
from engine.types import Timings
from tests.engine.test_deadlines import Clock
from tests.fakes.runner import ToyRunner, ToyStep
from tests.fakes.toy_engine import VOCAB_SIZE, ToyEngine, request, run, toy_engine


class TimedRunner(ToyRunner):
    """Every step takes a second."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(4, VOCAB_SIZE)
        self._clock = clock

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        self._clock.now += 1.0
        return super().submit(batch)


def timed(clock: Clock, **sizes: int) -> ToyEngine:
    return toy_engine(clock=clock, runner=TimedRunner(clock), **sizes)


def test_the_phases_follow_each_other() -> None:
    clock = Clock()
    engine = timed(clock, max_num_batched_tokens=8)
    engine.core.add(request("a", list(range(2, 22)), max_tokens=5))
    clock.now += 0.5
    deltas, _ = run(engine.core)
    first, *between, last = [delta.timings for delta in deltas["a"]]
    assert first == Timings(queue=0.5, prefill=3.0, decode=0.0, preemptions=0)
    assert last == Timings(queue=0.5, prefill=3.0, decode=4.0, preemptions=0)
    assert between == [None] * 3


def test_time_counts_from_when_the_request_was_sent() -> None:
    clock = Clock()
    engine = timed(clock)
    engine.core.add(request("a", [5, 6], max_tokens=1), clock.now - 2.5)
    (delta,) = engine.core.step().deltas
    assert delta.timings == Timings(2.5, 1.0, 0.0, 0)
    engine.core.add(request("clocks differ", [5, 6], max_tokens=1), clock.now + 1000)
    (delta,) = engine.core.step().deltas
    assert delta.timings is not None
    assert delta.timings.queue == 0.0


def test_one_that_waits_for_a_place_is_queued() -> None:
    clock = Clock()
    engine = timed(clock, max_num_seqs=1)
    engine.core.add(request("first", [5, 6], max_tokens=4))
    engine.core.add(request("second", [5, 7], max_tokens=4))
    deltas, _ = run(engine.core)
    assert deltas["second"][-1].timings == Timings(queue=4.0, prefill=1.0, decode=3.0, preemptions=0)


@pytest.mark.parametrize("stop", ["", "impossible"])
def test_the_first_delta_tells_also_where_a_stop_string_holds_it_back(stop: str) -> None:
    clock = Clock()
    engine = timed(clock)
    engine.core.add(request("a", [40, 41], max_tokens=30, stop=stop or None, skip_special_tokens=False))
    deltas, _ = run(engine.core)
    assert deltas["a"][0].timings is not None
    assert deltas["a"][-1].timings == Timings(0.0, 1.0, 29.0, 0)


def test_preemptions_are_counted_where_they_are_suffered() -> None:
    clock = Clock()
    engine = timed(clock, num_blocks=8, block_size=4)
    for name in ("a", "b"):
        engine.core.add(request(name, list(range(2, 12)), max_tokens=14))
    deltas, _ = run(engine.core)
    suffered = [deltas[name][-1].timings for name in ("a", "b")]
    assert [each and each.preemptions for each in suffered] == [0, engine.core.stats.preemptions_total]
    assert engine.core.stats.preemptions_total > 0
