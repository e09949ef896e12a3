"""A prompt's vector depends on the prompt alone, and is the direction of the states it is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequestError
from engine.pooler import Pooler
from engine.pooling import PoolingKind, PoolingParams
from engine.types import FinishReason, GenerationRequest, SamplingParams
from tests.fakes import toy_engine as toy
from tests.fakes.runner import toy_state
from tests.fakes.toy_engine import HIDDEN_SIZE, ToyEngine, choice_tokens, pooled, request, run

MakeEngine = Callable[..., ToyEngine]
PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13]
MEAN, LAST = PoolingParams(), PoolingParams(PoolingKind.LAST)


@pytest.fixture(params=[0, 1], ids=["one step at a time", "one step ahead"])
def toy_engine(request: pytest.FixtureRequest) -> MakeEngine:
    return functools.partial(toy.toy_engine, pipeline_depth=request.param)


def expected(prompt: Sequence[int], params: PoolingParams) -> list[float]:
    """The vector by its definition, computed without an engine."""
    states = np.array([toy_state(list(prompt[: position + 1])) for position in range(len(prompt))])
    state = (states.mean(0) if params.kind is PoolingKind.MEAN else states[-1])[: params.dimensions]
    direction: list[float] = (state / np.linalg.norm(state)).tolist()
    return direction


@pytest.mark.parametrize("params", [MEAN, LAST, PoolingParams(dimensions=2), PoolingParams(PoolingKind.LAST, 1)])
@pytest.mark.parametrize("prompt", [PROMPT[:1], PROMPT])
def test_a_vector_comes_once_and_nothing_is_generated(
    toy_engine: MakeEngine, prompt: list[int], params: PoolingParams
) -> None:
    engine = toy_engine(max_num_batched_tokens=4)
    engine.core.add(pooled("a", prompt, params))
    (delta,) = run(engine.core)[0]["a"]
    assert delta.embedding is not None
    assert np.frombuffer(delta.embedding, "<f4").tolist() == pytest.approx(expected(prompt, params), abs=1e-6)
    assert delta.finish == (FinishReason.STOP, None)
    assert (delta.token_ids, delta.data, delta.logprobs, delta.prompt_logprobs) == ((), b"", None, None)
    assert engine.core.stats.generation_tokens_total == 0
    assert engine.blocks.num_used == 0


def test_only_what_needs_every_position_leaves_the_cache_alone(toy_engine: MakeEngine) -> None:
    engine = toy_engine(block_size=4)
    for name, params, cached in (("a", MEAN, 0), ("b", MEAN, 0), ("c", LAST, 8)):
        engine.core.add(pooled(name, PROMPT, params))
        (delta,) = run(engine.core)[0][name]
        assert delta.cached_tokens == cached
    engine.core.add(request("d", PROMPT, max_tokens=1))
    assert run(engine.core)[0]["d"][0].cached_tokens == 8


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    budget=st.integers(1, 16),
    block_size=st.integers(1, 5),
    blocks=st.integers(0, 12),
    depth=st.integers(0, 1),
    prefix_caching=st.booleans(),
)
def test_neither_chunks_nor_preemption_nor_the_cache_change_a_bit(
    lengths: list[int], budget: int, block_size: int, blocks: int, depth: int, prefix_caching: bool
) -> None:
    engine = toy.toy_engine(
        num_blocks=-(-36 // block_size) + blocks,
        block_size=block_size,
        max_model_len=36,
        max_num_seqs=min(budget, 4),
        max_num_batched_tokens=budget,
        prefix_caching=prefix_caching,
        pipeline_depth=depth,
    )
    prompts = [[2 + position % 7 for position in range(length)] for length in lengths]
    for number, prompt in enumerate(prompts):
        plain = number % 3 == 2  # grows, so that others are preempted
        engine.core.add(
            request(str(number), prompt, max_tokens=6)
            if plain
            else pooled(str(number), prompt, (MEAN, LAST)[number % 3])
        )
    deltas, failures = run(engine.core)
    assert not failures
    for number, prompt in enumerate(prompts):
        if number % 3 == 2:
            assert len(choice_tokens(deltas[str(number)])) == 6
            continue
        (delta,) = deltas[str(number)]
        pooler = Pooler((MEAN, LAST)[number % 3])
        states = [toy_state(prompt[: position + 1]) for position in range(len(prompt))]
        pooler.add(np.array(states if number % 3 == 0 else states[-1:], np.float32))
        assert delta.embedding == pooler.vector()


@given(
    states=st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), min_size=1, max_size=8),
    cut=st.integers(0, 8),
)
def test_how_states_arrive_does_not_matter(states: list[list[float]], cut: int) -> None:
    table = np.array(states, np.float32)
    whole, parts = Pooler(MEAN), Pooler(MEAN)
    whole.add(table)
    parts.add(table[:cut])
    parts.add(table[cut:])
    assert parts.vector() == whole.vector()


def test_a_state_without_a_direction_stays_without_one() -> None:
    pooler = Pooler(LAST)
    pooler.add(np.zeros((1, 3), np.float32))
    assert pooler.vector() == bytes(12)


def test_refusals() -> None:
    engine = toy.toy_engine()
    engine.core.add(pooled("a", PROMPT, PoolingParams(dimensions=HIDDEN_SIZE)))
    with pytest.raises(InvalidRequestError, match="3 dimensions, not 4") as caught:
        engine.core.add(pooled("b", PROMPT, PoolingParams(dimensions=HIDDEN_SIZE + 1)))
    assert caught.value.param == "dimensions"
    with pytest.raises(InvalidRequestError, match="at least 1"):
        PoolingParams(dimensions=0)
    for sampling in ({"max_tokens": 1}, {"max_tokens": 0, "n": 2}, {"max_tokens": 0, "prompt_logprobs": 0}):
        with pytest.raises(InvalidRequestError, match="max_tokens 0"):
            GenerationRequest("c", (1,), SamplingParams(**sampling), pooling=MEAN)  # type: ignore[arg-type]
