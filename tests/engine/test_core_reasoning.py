"""Reasoning through the step loop around a toy model: budgets, grammars behind it, and what is counted."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.constraints.grammar_builder import GrammarBuilder
from engine.errors import InvalidRequestError
from engine.reasoning import ReasoningSpec
from engine.types import FinishReason, GrammarKind, GrammarSpec, OutputDelta
from tests.fakes import toy_engine as toy
from tests.fakes.toy_engine import ToyCompiler, ToyEngine, choice_tokens, request, run

MakeEngine = Callable[..., ToyEngine]

BEGUN = ReasoningSpec("[", "]", begun=True, budget=5, closing_token_ids=tuple(b"\n]"))
ENDLESS = replace(BEGUN, budget=None)
POINT = GrammarSpec(
    GrammarKind.JSON_SCHEMA,
    json.dumps(
        {
            "type": "object",
            "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 999}, "y": {"enum": ["up", "down"]}},
            "required": ["x", "y"],
            "additionalProperties": False,
        }
    ),
)


@pytest.fixture(params=[0, 1], ids=["one step at a time", "one step ahead"])
def toy_engine(request: pytest.FixtureRequest) -> MakeEngine:
    return functools.partial(toy.toy_engine, pipeline_depth=request.param)


def asked(request_id: str, reasoning: ReasoningSpec | None, **sampling: object) -> object:
    values: dict[str, object] = {"max_tokens": 60, "reasoning": reasoning, "skip_special_tokens": False, **sampling}
    return request(request_id, [5, 6, 7], **values)


def text(deltas: list[OutputDelta], choice: int = 0) -> bytes:
    return b"".join(delta.data for delta in deltas if delta.choice == choice)


def counted(deltas: list[OutputDelta], choice: int = 0) -> int:
    return [delta.reasoning_tokens for delta in deltas if delta.choice == choice][-1]


def test_a_budget_is_kept_to_the_token(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(request("free", [5, 6, 7], max_tokens=60, skip_special_tokens=False))
    for budget in range(6):
        engine.core.add(asked(str(budget), replace(BEGUN, budget=budget)))
    deltas, failures = run(engine.core)
    assert not failures
    free = text(deltas["free"])
    assert b"]" not in free[:6]  # so that the toy does not close the block by itself
    for budget in range(6):
        answer = text(deltas[str(budget)])
        assert answer[: budget + 2] == free[:budget] + b"\n]"
        assert len(answer) == 60
        assert counted(deltas[str(budget)]) == budget + 2
    assert counted(deltas["free"]) == 0


def test_a_budget_delays_nobody_until_it_is_used_up() -> None:
    engine = toy.toy_engine(pipeline_depth=1)
    engine.core.add(asked("a", replace(BEGUN, budget=30), max_tokens=40))
    run(engine.core)
    in_flight = [item.in_flight for batch in engine.runner.batches for item in batch.items]
    assert in_flight[1:30] == [True] * 29
    assert in_flight[30:32] == [False] * 2
    assert in_flight[34:] == [True] * len(in_flight[34:])  # nor in the answer


def test_a_grammar_begins_with_the_answer(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", BEGUN, grammar=POINT, ignore_eos=False, n=4))
    deltas, failures = run(engine.core)
    assert not failures
    for choice in range(4):
        thought, _, answer = text(deltas["a"], choice).partition(b"]")
        assert len(thought) <= 6
        assert list(json.loads(answer)) == ["x", "y"]
        assert counted(deltas["a"], choice) == len(thought) + 1
    assert len({text(deltas["a"], choice) for choice in range(4)}) > 1
    assert engine.blocks.num_used == 0


def test_an_answer_with_a_grammar_cannot_end_within_the_reasoning(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    for seed in range(6):
        engine.core.add(asked(str(seed), replace(BEGUN, budget=90), grammar=POINT, ignore_eos=False, seed=seed))
    deltas, _ = run(engine.core)
    finishes = {deltas[str(seed)][-1].finish for seed in range(6)}
    assert {finish and finish.reason for finish in finishes} <= {FinishReason.LENGTH, FinishReason.STOP}
    for seed in range(6):
        _, closed, answer = text(deltas[str(seed)]).partition(b"]")
        finish = deltas[str(seed)][-1].finish
        assert finish is not None
        if finish.reason is FinishReason.STOP:
            assert json.loads(answer)
        else:
            assert len(choice_tokens(deltas[str(seed)])) == 60
            assert counted(deltas[str(seed)]) == 60 or closed


def test_stop_strings_count_in_the_answer_alone(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("free", BEGUN))
    free = text(run(engine.core)[0]["free"])
    thought, _, answer = free.partition(b"]")
    stops = [chr(thought[0]), chr(answer[3])]
    engine.core.add(asked("a", BEGUN, stop=stops))
    deltas, _ = run(engine.core)
    stopped = text(deltas["a"])
    assert len(stopped) > len(thought)
    assert free.startswith(stopped)
    assert not set(stopped.partition(b"]")[2]) & set("".join(stops).encode())
    assert counted(deltas["a"]) == len(thought) + 1


def test_max_tokens_counts_reasoning_too(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", ENDLESS, max_tokens=9))
    deltas, _ = run(engine.core)
    assert counted(deltas["a"]) == len(choice_tokens(deltas["a"])) == 9
    assert deltas["a"][-1].finish == (FinishReason.LENGTH, None)


def test_counts_rise_and_never_exceed_what_was_emitted(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", BEGUN, stop=["no such text"]))
    deltas, _ = run(engine.core)
    emitted = 0
    counts = []
    for delta in deltas["a"]:
        emitted += len(delta.token_ids)
        counts.append(delta.reasoning_tokens)
        assert delta.reasoning_tokens <= emitted
    assert counts == sorted(counts)


def test_tokens_the_model_has_not_are_refused() -> None:
    engine = toy.toy_engine()
    with pytest.raises(InvalidRequestError, match="128 is not in the vocabulary"):
        engine.core.add(asked("a", replace(BEGUN, closing_token_ids=(93, 128))))
    with pytest.raises(InvalidRequestError, match="do not spell"):
        engine.core.add(asked("a", replace(BEGUN, closing_token_ids=(94,))))
    assert not engine.core.has_work


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, BEGUN, ENDLESS, replace(BEGUN, budget=0), replace(BEGUN, begun=False)]),
            st.sampled_from([None, POINT]),
            st.integers(1, 3),
            st.integers(0, 99),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(12, 40),
    st.sampled_from([0, 1]),
)
def test_tokens_depend_on_the_request_alone(
    wanted: list[tuple[ReasoningSpec | None, GrammarSpec | None, int, int]], num_blocks: int, depth: int
) -> None:
    """Beside others, with blocks taken away, one step ahead or not: the answer is that of the request alone."""
    grammars = GrammarBuilder(ToyCompiler(), 60)
    crowd = toy.toy_engine(num_blocks=num_blocks, block_size=4, pipeline_depth=depth, grammars=grammars)
    for number, (reasoning, grammar, n, seed) in enumerate(wanted):
        settings_ = {"grammar": grammar, "n": n, "seed": seed, "max_tokens": 24, "ignore_eos": False}
        crowd.core.add(asked(str(number), reasoning, **settings_))
    deltas, failures = run(crowd.core)
    assert not failures
    for number, (reasoning, grammar, n, seed) in enumerate(wanted):
        alone = toy.toy_engine(block_size=4, grammars=grammars)
        settings_ = {"grammar": grammar, "n": n, "seed": seed, "max_tokens": 24, "ignore_eos": False}
        alone.core.add(asked("x", reasoning, **settings_))
        expected = run(alone.core)[0]["x"]
        for choice in range(n):
            assert text(deltas[str(number)], choice) == text(expected, choice)
            assert counted(deltas[str(number)], choice) == counted(expected, choice)
