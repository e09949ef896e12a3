"""How much may wait, and what those are told who may not."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from engine.config import EngineConfig
from engine.errors import OverloadedError
from server.queue_gate import MAX_RETRY_SECONDS, QueueGate, QueuePlace
from tests.fakes.toy_engine import toy_model


def gate(requests: int = 0, tokens: int = 0, now: list[float] | None = None) -> QueueGate:
    clock = now if now is not None else [0.0]
    return QueueGate(toy_model(max_queued_requests=requests, max_queued_tokens=tokens), lambda: clock[0])


def test_no_limit_unless_set() -> None:
    open_gate = gate()
    places = [open_gate.enter([[1] * 1000]) for _ in range(1000)]
    assert (open_gate.requests, open_gate.tokens) == (len(places), 1_000_000)


def test_further_requests_are_refused_until_one_begins() -> None:
    narrow = gate(requests=2)
    first, second = narrow.enter([[1]]), narrow.enter([[1]])
    with pytest.raises(OverloadedError, match="2 requests wait already, and at most 2 may"):
        narrow.enter([[1]])
    first[0].begin()
    first[0].begin()
    third = narrow.enter([[1]])
    assert narrow.requests == 2
    second[0].leave()
    third[0].leave()
    third[0].begin()
    assert (narrow.requests, narrow.tokens) == (0, 0)


def test_tokens_are_limited_too() -> None:
    narrow = gate(tokens=10)
    places = narrow.enter([[1] * 4, [1] * 4])
    with pytest.raises(OverloadedError, match="8 prompt tokens wait already, and at most 10 may"):
        narrow.enter([[1] * 3])
    places += narrow.enter([[1] * 2])
    assert narrow.tokens == 10


def test_by_default_a_queue_of_long_prompts_is_bounded() -> None:
    usual = QueueGate(EngineConfig())
    waiting = [usual.enter([range(128_000)]) for _ in range(8)]
    with pytest.raises(OverloadedError, match="1024000 prompt tokens wait already, and at most 1048576 may") as refused:
        usual.enter([range(128_000)])
    assert refused.value.retry_after >= 1
    waiting += [usual.enter([range(24_000)])]  # a shorter one still may
    assert usual.requests == len(waiting) == 9


def test_where_nothing_waits_anything_is_taken_and_all_or_none_of_it() -> None:
    narrow = gate(requests=2, tokens=5)
    places = narrow.enter([[1] * 9] * 3)
    with pytest.raises(OverloadedError):
        narrow.enter([[1]])
    assert narrow.requests == len(places) == 3


def test_a_place_that_nobody_holds_any_more_does_not_count() -> None:
    narrow = gate(requests=1)
    places = narrow.enter([[1, 2]])
    assert narrow.requests == 1
    del places
    assert (narrow.requests, narrow.tokens) == (0, 0)


def test_when_to_come_back_follows_from_the_pace_of_late() -> None:
    now = [100.0]
    busy = gate(requests=12, now=now)
    assert busy.retry_after() == 1.0
    for place in busy.enter([[1]] * 4):
        place.begin()
        now[0] += 0.5  # two a second
    waiting = busy.enter([[1]] * 12)
    with pytest.raises(OverloadedError) as caught:
        busy.enter([[1]])
    assert caught.value.retry_after == 6.0
    now[0] += 1e6
    assert busy.retry_after() == MAX_RETRY_SECONDS
    assert len(waiting) == 12


class Waiting(RuleBasedStateMachine):
    """Places come, begin, leave and are forgotten in any order; the gate always knows what waits."""

    places: Bundle[list[QueuePlace]] = Bundle("places")

    @initialize(requests=st.integers(0, 5), tokens=st.integers(0, 20))
    def build(self, requests: int, tokens: int) -> None:
        self.gate = gate(requests, tokens)
        self.limits = (requests or 1 << 30, tokens or 1 << 30)
        self.waiting: dict[int, int] = {}

    @rule(target=places, sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3))
    def enter(self, sizes: list[int]) -> list[QueuePlace]:
        held, tokens = len(self.waiting), sum(self.waiting.values())
        fits = held + len(sizes) <= self.limits[0] and tokens + sum(sizes) <= self.limits[1]
        try:
            found = self.gate.enter([[1] * size for size in sizes])
        except OverloadedError:
            assert held
            assert not fits
            return []
        assert fits or not held
        self.waiting.update({id(place): size for place, size in zip(found, sizes, strict=True)})
        return found

    @rule(places=places, begins=st.booleans())
    def end_one(self, places: list[QueuePlace], begins: bool) -> None:
        if places:
            (places[0].begin if begins else places[0].leave)()
            self.waiting.pop(id(places[0]), None)

    @rule(places=consumes(places))
    def forget(self, places: list[QueuePlace]) -> None:
        for place in places:
            self.waiting.pop(id(place), None)
        places.clear()

    @invariant()
    def what_waits_is_counted(self) -> None:
        assert (self.gate.requests, self.gate.tokens) == (len(self.waiting), sum(self.waiting.values()))


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=60, stateful_step_count=30)
