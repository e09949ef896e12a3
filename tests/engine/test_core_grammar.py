"""Answers that follow a grammar, through the step loop around a toy model."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.constraints.base import CompiledGrammar, TokenConstraint, TokenMask
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_builder import GrammarBuilder
from engine.errors import ConstraintError, InvalidRequestError
from engine.types import FinishReason, GrammarKind, GrammarSpec, OutputDelta
from tests.fakes import toy_engine as toy
from tests.fakes.toy_engine import EOS, SPECIAL, ToyEngine, choice_tokens, request, run, toy_tokens

MakeEngine = Callable[..., ToyEngine]

LETTERS = GrammarSpec(GrammarKind.REGEX, "[a-z]{10}")
OPEN_END = GrammarSpec(GrammarKind.REGEX, "[a-z]{4}[0-9]*")
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

COMPILER = GrammarCompiler(toy_tokens(), (EOS,))


@pytest.fixture(params=[0, 1], ids=["one step at a time", "one step ahead"])
def toy_engine(request: pytest.FixtureRequest) -> MakeEngine:
    return functools.partial(toy.toy_engine, pipeline_depth=request.param)


def asked(request_id: str, grammar: GrammarSpec, **sampling: object) -> object:
    prompt = sampling.pop("prompt", [5, 6, 7])
    return request(request_id, prompt, grammar=grammar, ignore_eos=False, **{"max_tokens": 100, **sampling})  # type: ignore[arg-type]


def text(deltas: list[OutputDelta], choice: int = 0) -> str:
    return b"".join(delta.data for delta in deltas if delta.choice == choice).decode()


def finish(deltas: list[OutputDelta], choice: int = 0) -> object:
    return [delta.finish for delta in deltas if delta.choice == choice][-1]


def test_a_grammar_may_ask_for_a_special_token_which_is_shown_if_wanted(toy_engine: MakeEngine) -> None:
    parts = [{"type": "token", "id": SPECIAL}, {"type": "regex", "pattern": "[a-z]{3}"}]
    grammar = GrammarSpec(GrammarKind.TREE, json.dumps({"type": "sequence", "parts": parts}))
    engine = toy_engine()
    engine.core.add(asked("shown", grammar, shown_special_tokens=[SPECIAL]))
    engine.core.add(asked("hidden", grammar))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["shown"]) == choice_tokens(deltas["hidden"])
    assert text(deltas["shown"]) == chr(SPECIAL) + text(deltas["hidden"])
    assert text(deltas["hidden"]).isalpha()


def is_point(answer: str) -> bool:
    value = json.loads(answer)
    return list(value) == ["x", "y"] and 0 <= value["x"] <= 999 and value["y"] in ("up", "down")


def test_an_answer_follows_its_grammar_and_ends_where_that_is_complete(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", LETTERS))
    engine.core.add(asked("b", POINT))
    engine.core.add(request("c", [5, 6, 7], max_tokens=12))
    deltas, failures = run(engine.core)
    assert not failures
    assert len(text(deltas["a"])) == 10
    assert text(deltas["a"]).isalpha()
    assert finish(deltas["a"]) == (FinishReason.STOP, None)
    assert len(choice_tokens(deltas["a"])) == 10  # nothing is sampled only to say that it ends
    assert is_point(text(deltas["b"]))
    assert len(choice_tokens(deltas["c"])) == 12
    assert engine.blocks.num_used == 0


def test_max_tokens_cuts_an_answer_off(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", LETTERS, max_tokens=4))
    engine.core.add(asked("b", LETTERS, max_tokens=10))
    deltas, _ = run(engine.core)
    assert len(text(deltas["a"])) == 4
    assert finish(deltas["a"]) == (FinishReason.LENGTH, None)
    assert finish(deltas["b"]) == (FinishReason.STOP, None)  # complete with its last token


def test_choices_follow_the_grammar_each_on_its_own(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("a", POINT, n=5))
    deltas, _ = run(engine.core)
    answers = [text(deltas["a"], choice) for choice in range(5)]
    assert all(map(is_point, answers))
    assert len(set(answers)) > 1


def test_stop_strings_and_stop_tokens_end_an_answer_within_the_grammar(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("whole", LETTERS))
    whole = text(run(engine.core)[0]["whole"])
    engine.core.add(asked("string", LETTERS, stop=whole[3:5]))
    engine.core.add(asked("token", LETTERS, stop_token_ids=[ord(whole[3])]))
    deltas, _ = run(engine.core)
    assert text(deltas["string"]) == whole[: whole.index(whole[3:5])]
    assert finish(deltas["string"]) == (FinishReason.STOP, whole[3:5])
    assert text(deltas["token"]) == whole[: whole.index(whole[3])]
    assert finish(deltas["token"]) == (FinishReason.STOP, ord(whole[3]))


def test_an_answer_that_may_go_on_ends_with_an_end_token(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    for seed in range(8):
        engine.core.add(asked(f"eos {seed}", OPEN_END, seed=seed))
        engine.core.add(asked(f"stop {seed}", OPEN_END, seed=seed, stop_token_ids=[127]))
    deltas, _ = run(engine.core)
    for request_id, each in deltas.items():
        answer = text(each)
        assert answer[:4].isalpha()
        assert answer[4:].isdigit() or not answer[4:]
        assert finish(each) in [(FinishReason.STOP, None), (FinishReason.STOP, 127)]
        assert request_id.startswith("stop") or finish(each) == (FinishReason.STOP, None)
    assert any(finish(each) == (FinishReason.STOP, 127) for each in deltas.values())


def test_an_answer_computed_again_after_its_blocks_were_taken_is_the_same(toy_engine: MakeEngine) -> None:
    roomy, tight = toy_engine(), toy_engine(num_blocks=20, block_size=4)
    for engine in (roomy, tight):
        for number in range(4):
            engine.core.add(asked(str(number), POINT, prompt=[5, 6, 7, number + 10], n=2, max_tokens=70))
    expected, _ = run(roomy.core)
    deltas, failures = run(tight.core)
    assert not failures
    assert tight.core.stats.preemptions_total > 0
    for number in range(4):
        for choice in (0, 1):
            assert text(deltas[str(number)], choice) == text(expected[str(number)], choice)
            assert finish(deltas[str(number)], choice) == finish(expected[str(number)], choice)


def test_a_prompt_from_the_cache_changes_nothing(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    prompt = list(range(5, 30))
    engine.core.add(asked("cold", POINT, prompt=prompt))
    cold, _ = run(engine.core)
    engine.core.add(asked("warm", POINT, prompt=prompt))
    warm, _ = run(engine.core)
    assert warm["warm"][0].cached_tokens > 0
    assert text(warm["warm"]) == text(cold["cold"])


def test_a_grammar_that_cannot_be_used_fails_its_request_alone(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(asked("good", LETTERS))
    engine.core.add(asked("bad", GrammarSpec(GrammarKind.REGEX, "a(")))
    deltas, (failure,) = run(engine.core)
    assert len(text(deltas["good"])) == 10
    assert (failure.request_id, failure.kind) == ("bad", "InvalidRequestError")
    assert engine.blocks.num_used == 0
    assert not engine.core.has_work


class HeldCompiler(GrammarCompiler):
    """Waits for the gate."""

    def __init__(self) -> None:
        super().__init__(toy_tokens(), (EOS,))
        self.gate = threading.Event()

    def compile(self, spec: GrammarSpec) -> CompiledGrammar:
        assert self.gate.wait(60)
        return super().compile(spec)


def test_others_go_on_while_a_grammar_is_compiled(toy_engine: MakeEngine) -> None:
    compiler = HeldCompiler()
    engine = toy_engine(grammars=GrammarBuilder(compiler, 60))
    engine.core.add(asked("waits", LETTERS, n=2))
    engine.core.add(request("runs", [5, 6, 7], max_tokens=12))
    deltas: list[OutputDelta] = []
    while not deltas or deltas[-1].finish is None:
        output = engine.core.step()
        deltas += output.deltas
    assert {delta.request_id for delta in deltas} == {"runs"}
    assert (output.stats.waiting, output.stats.waiting_for_grammar) == (2, 2)
    assert engine.core.has_work
    compiler.gate.set()
    rest, _ = run(engine.core)
    assert len(text(rest["waits"], 1)) == 10
    assert engine.core.stats.waiting_for_grammar == 0


def test_a_request_may_leave_or_run_out_of_time_while_its_grammar_is_compiled(toy_engine: MakeEngine) -> None:
    compiler = HeldCompiler()
    now = [0.0]
    engine = toy_engine(grammars=GrammarBuilder(compiler, 60), clock=lambda: now[0], request_timeout=5.0)
    engine.core.add(asked("leaves", LETTERS))
    engine.core.add(asked("late", LETTERS))
    engine.core.abort("leaves")
    now[0] = 6.0
    (failure,) = engine.core.step().failures
    assert (failure.request_id, failure.kind) == ("late", "DeadlineExceededError")
    assert not engine.core.has_work
    compiler.gate.set()


class Stuck:
    """Allows three tokens, then knows no further."""

    complete = False

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._length = 0

    def is_free(self, ahead: int = 0) -> bool:
        return False

    def mask(self) -> TokenMask:
        if self._length == 3:
            raise ConstraintError("It is too complex.", (self._request_id,))
        return np.full(toy.VOCAB_SIZE // 32, 0xFFFFFFF0, np.uint32)

    def advance(self, token_id: int) -> None:
        self._length += 1

    def rewind(self, count: int) -> None:
        self._length -= count


class StuckCompiler:
    """Makes grammars that get stuck."""

    def compile(self, spec: GrammarSpec) -> CompiledGrammar:
        return self

    def constraint(self, request_id: str = "", stop_token_ids: Sequence[int] = ()) -> TokenConstraint:
        return Stuck(request_id)


def test_a_grammar_that_gets_stuck_on_the_way_fails_its_request_alone(toy_engine: MakeEngine) -> None:
    engine = toy_engine(grammars=GrammarBuilder(StuckCompiler(), 60))
    engine.core.add(request("a", [5, 6, 7], max_tokens=12))
    engine.core.add(asked("stuck", LETTERS))
    engine.core.add(request("b", [8, 9], max_tokens=12))
    deltas, (failure,) = run(engine.core)
    assert (failure.request_id, failure.kind) == ("stuck", "ConstraintError")
    assert len(choice_tokens(deltas["stuck"])) == 3
    alone = toy_engine()
    alone.core.add(request("a", [5, 6, 7], max_tokens=12))
    alone.core.add(request("b", [8, 9], max_tokens=12))
    expected, _ = run(alone.core)
    for each in "ab":
        assert choice_tokens(deltas[each]) == choice_tokens(expected[each])
    assert engine.blocks.num_used == 0


def test_a_grammar_and_ignore_eos_do_not_go_together() -> None:
    with pytest.raises(InvalidRequestError, match="ignore_eos"):
        request("a", [5], grammar=LETTERS, ignore_eos=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([LETTERS, OPEN_END, POINT]), st.integers(1, 3), st.integers(0, 99)),
        min_size=1,
        max_size=6,
    ),
    st.integers(9, 40),
    st.sampled_from([0, 1]),
)
def test_tokens_depend_on_the_request_alone(
    wanted: list[tuple[GrammarSpec, int, int]], num_blocks: int, depth: int
) -> None:
    """Beside others, with blocks taken away, one step ahead or not: the answer is that of the request alone."""
    grammars = GrammarBuilder(COMPILER, 60)
    crowd = toy.toy_engine(num_blocks=num_blocks, block_size=4, pipeline_depth=depth, grammars=grammars)
    for number, (grammar, n, seed) in enumerate(wanted):
        crowd.core.add(asked(str(number), grammar, n=n, seed=seed, max_tokens=24))
    deltas, failures = run(crowd.core)
    assert not failures
    for number, (grammar, n, seed) in enumerate(wanted):
        alone = toy.toy_engine(block_size=4, grammars=grammars)
        alone.core.add(asked("x", grammar, n=n, seed=seed, max_tokens=24))
        expected = run(alone.core)[0]["x"]
        for choice in range(n):
            assert text(deltas[str(number)], choice) == text(expected, choice)
            assert finish(deltas[str(number)], choice) == finish(expected, choice)
