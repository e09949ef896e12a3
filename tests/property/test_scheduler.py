"""Laws 2 and 3 over the toy model: every request ends, no step is too large, and tokens depend on the request alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.messages import StepOutput
from engine.types import GenerationRequest
from tests.fakes.toy_engine import ToyEngine, choice_tokens, request, run, toy_engine

COMMON = [2, 3, 4] * 8  # prompts begin alike
TAILS = st.lists(st.integers(2, 4), min_size=1, max_size=6)


@dataclass(frozen=True)
class Arrival:
    """A request, the step before which it arrives, and after how many steps more it is aborted, if at all."""

    what: GenerationRequest
    step: int
    abort_after: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    return [
        Arrival(
            replace(
                request(
                    str(number),
                    COMMON[: draw(st.sampled_from([0, 5, 12, 24]))] + draw(TAILS),
                    max_tokens=draw(st.sampled_from([1, 8, 24])),
                    n=draw(st.sampled_from([1, 1, 2, 4])),
                    seed=number,
                    ignore_eos=draw(st.booleans()),
                    stop=draw(st.sampled_from([(), ("\x03",), ("ab", "\x05\x06")])),
                    # the toy has no penalties, but they decide whether a token must be known before the next one
                    presence_penalty=draw(st.sampled_from([0.0, 0.0, 1.0])),
                ),
                priority=draw(st.sampled_from([0, 0, 0, -1, 2])),
                timeout=draw(st.sampled_from([None, None, None, 5.0, 60.0])),
            ),
            draw(st.integers(0, 12)),
            draw(st.sampled_from([None, None, None, 0, 1, 2, 5, 12])),
        )
        for number in range(draw(st.integers(3, 8)))
    ]


Size = dict[str, int | bool | float]


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """Engines so small that chunks, queues and preemption are the rule; every request above fits one alone."""
    block_size = draw(st.sampled_from([1, 2, 4, 5]))
    return {
        "block_size": block_size,
        "num_blocks": -(-55 // block_size) + draw(st.integers(0, 4)),
        "max_num_seqs": draw(st.sampled_from([1, 3, 6, 12])),
        "max_num_batched_tokens": draw(st.sampled_from([1, 7, 16, 40])),
        "prefix_caching": draw(st.booleans()),
        "max_step_seconds": draw(st.sampled_from([0.0, 0.0, 1e-9])),
        "pipeline_depth": draw(st.sampled_from([0, 1, 2])),
    }


def engine_of(size: Size) -> ToyEngine:
    """An engine whose clock moves by one whenever it is read."""
    return toy_engine(**size, clock=itertools.count().__next__)  # type: ignore[arg-type]


def step_without_a_stall(engine: ToyEngine) -> StepOutput:
    """A step; fails if an answer under way neither got its token nor gave its blocks to a more important one."""
    running = engine.core._scheduler._running
    awaiting = {each for each in running if each.awaits_token()}
    under_way = [each for each in running if each.num_pending == 1 and not each.awaits_token()]
    before = len(engine.runner.batches)
    output = engine.core.step()
    expired = {each.request_id for each in output.failures}
    under_way = [each for each in under_way if each.request.request_id not in expired]
    served = {item.sequence for batch in engine.runner.batches[before : before + 1] for item in batch.items}
    for each in under_way:
        assert each in served or (not each.block_table and any(other.rank < each.rank for other in served | awaiting))
    return output


def play(engine: ToyEngine, script: list[Arrival]) -> list[StepOutput]:
    """Run a script to its end; fails if it has none."""
    outputs = []
    step = 0
    while step < 3000:
        for each in script:
            if each.step == step:
                engine.core.add(each.what)
            if each.abort_after is not None and each.step + each.abort_after == step:
                engine.core.abort(each.what.request_id)
        if not engine.core.has_work and step > 40:
            return outputs
        outputs.append(step_without_a_stall(engine))
        step += 1
    raise AssertionError("there is still work after 3000 steps")


@settings(max_examples=200)
@given(script=arrivals(), size=sizes())
def test_every_request_ends_and_depends_on_nothing_but_itself(script: list[Arrival], size: Size) -> None:
    engine = engine_of(size)
    outputs = play(engine, script)  # the toy runner itself checks the bounds of each step
    failed = {each.request_id: each.kind for output in outputs for each in output.failures}
    assert set(failed.values()) <= {"DeadlineExceededError"}
    assert engine.blocks.num_used == 0
    assert (engine.core.stats.running, engine.core.stats.waiting) == (0, 0)
    reference = toy_engine(prefix_caching=False, max_num_batched_tokens=1000, max_num_seqs=100)
    for each in script:
        deltas = [delta for output in outputs for delta in output.deltas if delta.request_id == each.what.request_id]
        assert len({delta.cached_tokens for delta in deltas}) <= 1
        reference.core.add(replace(each.what, timeout=None))
        alone = run(reference.core)[0][each.what.request_id]
        for choice in range(each.what.sampling.n):
            tokens, expected = choice_tokens(deltas, choice), choice_tokens(alone, choice)
            ended = [delta.finish for delta in deltas if delta.choice == choice and delta.finish is not None]
            if ended or (each.abort_after is None and each.what.request_id not in failed):
                assert tokens == expected
                assert ended == [delta.finish for delta in alone if delta.choice == choice and delta.finish is not None]
            else:
                assert tokens == expected[: len(tokens)]


@settings(max_examples=60)
@given(script=arrivals(), size=sizes())
def test_running_sequences_come_first_and_none_is_left_out(script: list[Arrival], size: Size) -> None:
    engine = engine_of(size)
    play(engine, script)
    for batch in engine.runner.batches:
        partial = [not item.sample for item in batch.items]
        assert not any(partial[:-1])  # only the last share of a step is a chunk with more to come


@settings(max_examples=100)
@given(script=arrivals(), size=sizes())
def test_within_a_priority_requests_begin_in_order_of_arrival(script: list[Arrival], size: Size) -> None:
    engine = engine_of(size)
    play(engine, script)
    begun: dict[int, list[int]] = {}
    for batch in engine.runner.batches:
        for item in batch.items:
            arrivals_of_priority = begun.setdefault(item.sequence.request.priority, [])
            if item.sequence.arrival not in arrivals_of_priority:
                arrivals_of_priority.append(item.sequence.arrival)
    assert all(numbers == sorted(numbers) for numbers in begun.values())


@settings(max_examples=60)
@given(script=arrivals(), size=sizes())
def test_the_same_script_gives_the_same_steps(script: list[Arrival], size: Size) -> None:
    assert play(engine_of(size), script) == play(engine_of(size), script)
