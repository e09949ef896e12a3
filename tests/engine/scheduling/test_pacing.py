"""Chunks cut by time: gaps between tokens stay bounded, prompts go on, and nothing changes but the pace."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scheduling.batch import ScheduledBatch
from engine.scheduling.pacing import MIN_CHUNK, StepPacer
from engine.types import OutputDelta
from tests.engine.test_core import expected
from tests.fakes.runner import ToyRunner, ToyStep
from tests.fakes.toy_engine import VOCAB_SIZE, choice_tokens, request, run, toy_engine


class TimedRunner(ToyRunner):
    """Moves a clock by what each step would take: some milliseconds, and some for each token."""

    def __init__(self, constant: float, per_token: float) -> None:
        super().__init__(4, VOCAB_SIZE)
        self.now = 0.0
        self.seconds: list[float] = []
        self._constant = constant
        self._per_token = per_token

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        self.seconds.append(self._constant + self._per_token * batch.num_tokens)
        self.now += self.seconds[-1]
        return super().submit(batch)


def gaps(max_step_seconds: float, constant: float = 0.01) -> tuple[list[float], TimedRunner]:
    """Times between the tokens of an answer under way while four prompts of 200 tokens are computed."""
    runner = TimedRunner(constant, per_token=0.001)
    engine = toy_engine(
        max_num_batched_tokens=128, max_step_seconds=max_step_seconds, runner=runner, clock=lambda: runner.now
    )
    engine.core.add(request("answer", [5, 6, 7], max_tokens=160))
    for _ in range(4):
        engine.core.step()
    for number in range(4):
        engine.core.add(request(str(number), [number + 2] * 200, max_tokens=2))
    times = [runner.now]
    deltas: dict[str, list[OutputDelta]] = {}
    while len(deltas.get("3", ())) < 2:
        for delta in engine.core.step().deltas:
            deltas.setdefault(delta.request_id, []).append(delta)
            if delta.request_id == "answer":
                times.append(runner.now)
    for number in range(4):
        assert choice_tokens(deltas[str(number)]) == expected([number + 2] * 200, 2)
    return [after - before for before, after in itertools.pairwise(times)], runner


def test_gaps_stay_bounded_and_the_time_is_used() -> None:
    unbounded, _ = gaps(0.0)
    assert max(unbounded) == pytest.approx(0.01 + 0.128)
    bounded, runner = gaps(0.06)
    assert max(bounded) < 0.06 * 1.5
    chunks = [batch.num_tokens for batch in runner.batches if batch.num_tokens > len(batch.items)]
    assert max(chunks) >= 40  # it starts from the fewest and finds what fits: 50 tokens


def test_prompts_keep_two_thirds_of_their_pace_where_every_step_is_slow() -> None:
    """A step costs 40 ms before it has a token; within 10 ms nothing would fit."""
    bounded, runner = gaps(0.01, constant=0.04)
    assert max(bounded) < 3 * 0.041 * 1.1
    chunks = [batch.num_tokens for batch in runner.batches if batch.num_tokens > 16 + len(batch.items)]
    seconds = sum(0.04 + 0.001 * each for each in chunks[2:-1])
    assert sum(chunks[2:-1]) / seconds > 1000 * 2 / 3 * 0.95


def test_without_answers_under_way_a_prompt_gets_the_whole_budget() -> None:
    runner = TimedRunner(constant=0.01, per_token=0.001)
    engine = toy_engine(max_num_batched_tokens=128, max_step_seconds=0.02, runner=runner, clock=lambda: runner.now)
    engine.core.add(request("long", [3] * 200, max_tokens=2))
    run(engine.core)
    assert [batch.num_tokens for batch in runner.batches[:2]] == [128, 72]


def test_however_slow_a_machine_is_prompts_go_on() -> None:
    pacer = StepPacer(512, 0.05)
    for _ in range(10):
        pacer.observe(512, 100.0)
    assert pacer.tokens_for_prompts(4) == MIN_CHUNK
    assert pacer.tokens_for_prompts(510) == 2
    assert pacer.tokens_for_prompts(512) == 0


def test_a_short_step_says_nothing_against_longer_ones() -> None:
    pacer = StepPacer(512, 0.1)
    for _ in range(20):
        pacer.observe(pacer.tokens_for_prompts(1) + 1, 0.05)
    assert pacer.tokens_for_prompts(1) == 511
    pacer.observe(3, 0.04)
    assert pacer.tokens_for_prompts(1) == 511
    pacer.observe(3, 0.4)
    assert pacer.tokens_for_prompts(1) == MIN_CHUNK


def test_a_hiccup_does_not_count_for_what_steps_take() -> None:
    pacer = StepPacer(512, 0.01)
    for seconds in (0.02, 0.02, 100.0, 0.02):
        pacer.observe_decodes(seconds)
    for _ in range(40):
        tokens = pacer.tokens_for_prompts(1) + 1
        pacer.observe(tokens, 0.001 * tokens)
    assert 60 <= pacer.tokens_for_prompts(1) + 1 <= 70


@given(
    max_tokens=st.integers(1, 600),
    max_seconds=st.sampled_from([0.0, 1e-3, 0.1, 10.0]),
    steps=st.lists(st.tuples(st.integers(1, 600), st.floats(0, 100)), max_size=20),
    decodes=st.integers(0, 600),
)
def test_never_beyond_the_budget_and_never_below_the_floor(
    max_tokens: int, max_seconds: float, steps: list[tuple[int, float]], decodes: int
) -> None:
    pacer = StepPacer(max_tokens, max_seconds)
    for num_tokens, seconds in steps:
        pacer.observe(num_tokens, seconds)
    decodes = min(decodes, max_tokens)
    tokens = pacer.tokens_for_prompts(decodes)
    assert min(MIN_CHUNK, max_tokens - decodes) <= tokens <= max_tokens - decodes
