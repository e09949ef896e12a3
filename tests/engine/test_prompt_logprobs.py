"""What is said of a prompt depends on the prompt alone, and is said once, however it is cut and disturbed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.delta_stream import merge
from engine.errors import ContextLengthError, InvalidRequestError
from engine.types import FinishReason, OutputDelta, PromptLogprob, SamplingParams
from tests.fakes import toy_engine as toy
from tests.fakes.runner import ToyRunner, toy_token
from tests.fakes.toy_engine import EOS, VOCAB_SIZE, ToyEngine, choice_tokens, request, run

MakeEngine = Callable[..., ToyEngine]
PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13]


@pytest.fixture(params=[0, 1], ids=["one step at a time", "one step ahead"])
def toy_engine(request: pytest.FixtureRequest) -> MakeEngine:
    return functools.partial(toy.toy_engine, pipeline_depth=request.param)


def expected(prompt: list[int], count: int) -> list[tuple[int, bytes, float | None, list[tuple[int, float]]]]:
    """What the toy says of a prompt, computed without an engine."""
    said: list[tuple[int, bytes, float | None, list[tuple[int, float]]]] = [(prompt[0], bytes([prompt[0]]), None, [])]
    for position, token in enumerate(prompt[1:]):
        first = toy_token(prompt[: position + 1], 0, 0, VOCAB_SIZE)
        top = [((first + rank) % VOCAB_SIZE, -float(rank)) for rank in range(count)]
        said.append((token, bytes([token]), -float((token - first) % VOCAB_SIZE), top))
    return said


def told(deltas: list[OutputDelta]) -> list[tuple[int, bytes, float | None, list[tuple[int, float]]]]:
    """What the first delta says of the prompt; none of the others may say anything."""
    first, *others = deltas
    assert all(delta.prompt_logprobs is None for delta in others)
    assert first.prompt_logprobs is not None
    return [
        (each.token_id, each.data, each.logprob, [(top.token_id, top.logprob) for top in each.top])
        for each in first.prompt_logprobs
    ]


@pytest.mark.parametrize("prompt", [PROMPT[:1], PROMPT[:2], PROMPT])
def test_each_token_after_the_first_is_judged_by_those_before_it(toy_engine: MakeEngine, prompt: list[int]) -> None:
    engine = toy_engine()
    engine.core.add(request("a", prompt, max_tokens=4, prompt_logprobs=2))
    deltas, failures = run(engine.core)
    assert not failures
    assert told(deltas["a"]) == expected(prompt, 2)
    assert choice_tokens(deltas["a"]) == choice_tokens(plain(toy_engine, prompt))


def plain(toy_engine: MakeEngine, prompt: list[int]) -> list[OutputDelta]:
    """The same request without log-probabilities."""
    engine = toy_engine()
    engine.core.add(request("a", prompt, max_tokens=4))
    return run(engine.core)[0]["a"]


def test_it_is_told_with_the_first_token_even_where_the_text_is_held_back(toy_engine: MakeEngine) -> None:
    first, second = choice_tokens(plain(toy_engine, PROMPT))[:2]
    engine = toy_engine()
    stop = bytes([first, second]).decode("latin-1") + "zz"
    engine.core.add(request("a", PROMPT, max_tokens=4, prompt_logprobs=0, stop=[stop]))
    deltas = run(engine.core)[0]["a"]
    assert told(deltas) == expected(PROMPT, 0)
    assert deltas[0].token_ids == ()


@pytest.mark.parametrize("choices", [1, 3])
def test_without_an_answer_only_the_prompt_is_computed(toy_engine: MakeEngine, choices: int) -> None:
    engine = toy_engine(max_num_batched_tokens=4)
    engine.core.add(request("a", PROMPT, max_tokens=0, n=choices, prompt_logprobs=1))
    deltas, failures = run(engine.core)
    assert not failures
    assert sorted(delta.choice for delta in deltas["a"]) == list(range(choices))
    assert told(deltas["a"]) == expected(PROMPT, 1)
    for delta in deltas["a"]:
        assert delta.finish == (FinishReason.LENGTH, None)
        assert (delta.token_ids, delta.data) == ((), b"")
        assert delta.timings is not None
    assert engine.core.stats.generation_tokens_total == 0
    assert engine.blocks.num_used == 0


def test_without_an_answer_a_prompt_may_fill_the_context(toy_engine: MakeEngine) -> None:
    engine = toy_engine(max_model_len=9, num_blocks=3)
    engine.core.add(request("a", PROMPT, max_tokens=0))
    assert run(engine.core)[0]["a"][0].finish == (FinishReason.LENGTH, None)
    with pytest.raises(ContextLengthError):
        engine.core.add(request("b", PROMPT, max_tokens=1))


def test_a_cached_prefix_is_left_alone_but_blocks_are_kept_for_others(toy_engine: MakeEngine) -> None:
    engine = toy_engine(block_size=4)
    for name, sampling in (("a", {}), ("b", {"prompt_logprobs": 1}), ("c", {})):
        engine.core.add(request(name, PROMPT, max_tokens=1, **sampling))
        deltas, _ = run(engine.core)
        assert deltas[name][0].cached_tokens == {"a": 0, "b": 0, "c": 8}[name]
    assert engine.core.stats.prefix_cache_queries_total == 2 * len(PROMPT)


def test_the_end_token_is_told_beside_the_answer() -> None:
    pairs = ([first, second] for first in range(2, 20) for second in range(VOCAB_SIZE))
    prompt = next(pair for pair in pairs if toy_token(pair, 7, 0, VOCAB_SIZE) == EOS)
    engine = toy.toy_engine()
    engine.core.add(request("a", prompt, max_tokens=3, logprobs=1, ignore_eos=False))
    engine.core.add(request("b", prompt, max_tokens=3, ignore_eos=False))
    deltas, _ = run(engine.core)
    (ended,) = deltas["a"]
    assert ended.end_logprob is not None
    assert (ended.end_logprob.token_id, ended.end_logprob.data) == (EOS, b"")
    assert (ended.logprobs, ended.token_ids) == ((), ())
    assert deltas["b"][0].end_logprob is None


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    budget=st.integers(1, 16),
    block_size=st.integers(1, 5),
    blocks=st.integers(0, 12),
    depth=st.integers(0, 1),
    prefix_caching=st.booleans(),
    choices=st.integers(1, 2),
)
def test_neither_chunks_nor_preemption_nor_the_cache_change_or_double_anything(
    lengths: list[int], budget: int, block_size: int, blocks: int, depth: int, prefix_caching: bool, choices: int
) -> None:
    engine = toy.toy_engine(
        num_blocks=-(-36 // block_size) * choices + blocks,
        block_size=block_size,
        max_model_len=36,
        max_num_seqs=min(budget, 4),
        max_num_batched_tokens=budget,
        prefix_caching=prefix_caching,
        pipeline_depth=depth,
    )
    prompts = [[2 + position % 7 for position in range(length)] for length in lengths]  # begin alike
    for number, prompt in enumerate(prompts):
        wanted = {"prompt_logprobs": number % 3} if number % 4 != 3 else {}
        engine.core.add(request(str(number), prompt, max_tokens=(number * 2) % 6, n=choices, **wanted))
    deltas, failures = run(engine.core)
    assert not failures
    for number, prompt in enumerate(prompts):
        if number % 4 != 3:
            assert told(deltas[str(number)]) == expected(prompt, number % 3)
        else:
            assert all(delta.prompt_logprobs is None for delta in deltas[str(number)])
        assert len(choice_tokens(deltas[str(number)])) == (number * 2) % 6


def test_a_step_that_fails_costs_nobody_else_what_was_read(toy_engine: MakeEngine) -> None:
    runner = ToyRunner(4, VOCAB_SIZE, invalid_for=lambda what: what.request_id == "bad")
    engine = toy_engine(runner=runner, max_num_batched_tokens=4)
    engine.core.add(request("good", PROMPT, max_tokens=2, prompt_logprobs=1))
    engine.core.add(request("bad", PROMPT[::-1], max_tokens=2, prompt_logprobs=1))
    deltas, failures = run(engine.core)
    assert [failure.request_id for failure in failures] == ["bad"]
    assert told(deltas["good"]) == expected(PROMPT, 1)


@pytest.mark.parametrize("count", [-1, 21, True, 1.0])
def test_how_many_alternatives_there_may_be(count: object) -> None:
    with pytest.raises(InvalidRequestError, match="prompt_logprobs"):
        SamplingParams(prompt_logprobs=count)  # type: ignore[arg-type]


def test_no_more_is_told_of_a_prompt_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.admission.MAX_PROMPT_LOGPROBS", 18)
    engine = toy.toy_engine()
    engine.core.add(request("a", PROMPT, max_tokens=0, prompt_logprobs=1))
    with pytest.raises(InvalidRequestError, match="18 together") as caught:
        engine.core.add(request("b", PROMPT, max_tokens=0, prompt_logprobs=2))
    assert caught.value.param == "prompt_logprobs"


def test_what_waits_for_a_slow_reader_keeps_what_was_said_of_the_prompt() -> None:
    said = (PromptLogprob(5, b"x", None, ()),)
    deltas = [OutputDelta("a", 0, (1,), b"a", prompt_logprobs=said), OutputDelta("a", 0, (2,), b"b")]
    assert merge(deltas).prompt_logprobs == said
