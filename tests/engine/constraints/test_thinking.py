"""Budgets of reasoning, and grammars that begin behind it: what may come next after each token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.base import TokenConstraint, TokenMask
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.reasoning_text import Place, ReasoningMarkers
from engine.constraints.thinking import Thinking, Vocabulary
from engine.errors import InvalidRequestError
from engine.reasoning import ReasoningSpec
from engine.text.token_bytes import TokenBytes
from engine.types import GrammarKind, GrammarSpec, SamplingParams

WORDS = ["", "<think>", "</think>", "</", "think", ">", ">\n", "\n", "\n\n", "a", "b", " ", "<", "1", "2", "12", ">1"]
(
    END,
    START_MARK,
    END_MARK,
    SLASH,
    THINK,
    CLOSES,
    CLOSES_ON,
    NEWLINE,
    NEWLINES,
    A,
    B,
    SPACE,
    LESS,
    ONE,
    TWO,
    TWELVE,
    _,
) = range(len(WORDS))
TOKENS = TokenBytes([word.encode() for word in WORDS], frozenset({END}))
EVERYTHING = set(range(len(WORDS)))
DIGITS = GrammarSpec(GrammarKind.REGEX, "[0-9]{3}")
COMPILER = GrammarCompiler(TOKENS, (END,))
THINKING = Thinking(TOKENS, (END,))


def spec(*, begun: bool = True, budget: int | None = None) -> ReasoningSpec:
    return ReasoningSpec(
        "<think>",
        "</think>",
        begun=begun,
        start_token_ids=(START_MARK,),
        budget=budget,
        closing_token_ids=(NEWLINE, END_MARK),
    )


def constraint(reasoning: ReasoningSpec, grammar: GrammarSpec | None = None, **sampling: object) -> TokenConstraint:
    params = SamplingParams(reasoning=reasoning, **sampling)  # type: ignore[arg-type]
    answer = None if grammar is None else COMPILER.compile(grammar).constraint("x", params.stop_token_ids)
    made = THINKING.constraint(params, answer)
    assert made is not None
    return made


def members(mask: TokenMask) -> set[int]:
    return {each for each in EVERYTHING if int(mask[each // 32]) >> each % 32 & 1}


def allowed(made: TokenConstraint) -> set[int]:
    if made.is_free():
        assert members(made.mask()) == EVERYTHING
    return members(made.mask())


def after(made: TokenConstraint, *tokens: int) -> set[int]:
    """What may come after these, each of which must be allowed."""
    for token in tokens:
        assert token in allowed(made)
        made.advance(token)
    return allowed(made)


def test_nothing_to_hold_an_answer_to_makes_no_constraint() -> None:
    assert THINKING.constraint(SamplingParams()) is None
    assert THINKING.constraint(SamplingParams(reasoning=spec())) is None
    grammar = COMPILER.compile(DIGITS).constraint()
    assert THINKING.constraint(SamplingParams(), grammar) is grammar


def test_the_block_is_closed_when_the_budget_is_used_up() -> None:
    made = constraint(spec(budget=2))
    assert after(made, A) == EVERYTHING
    assert after(made, B) == {NEWLINE}
    assert after(made, NEWLINE) == {END_MARK}
    assert after(made, END_MARK) == EVERYTHING - {START_MARK}  # and is not opened again
    assert after(made, NEWLINES) == EVERYTHING - {START_MARK}
    assert after(made, A, START_MARK) == EVERYTHING  # an answer may speak of it
    assert not made.complete


def test_a_model_that_closes_the_block_itself_is_left_alone() -> None:
    made = constraint(spec(budget=3))
    assert after(made, A, END_MARK, B, B, B, B) == EVERYTHING
    made = constraint(spec(budget=3))
    assert after(made, A, A, END_MARK, B, B) == EVERYTHING  # with its last token


def test_a_budget_counts_from_the_start_marker_on_and_goes_on_in_a_further_block() -> None:
    made = constraint(spec(begun=False, budget=2))
    assert after(made, NEWLINE, START_MARK, A) == EVERYTHING
    assert after(made, END_MARK) == EVERYTHING - {START_MARK}  # which took what was left
    made = constraint(spec(begun=False, budget=3))
    assert after(made, START_MARK, A, END_MARK, START_MARK) == EVERYTHING
    assert after(made, B) == {NEWLINE}


def test_a_budget_of_nothing_still_lets_the_model_open_the_block() -> None:
    made = constraint(spec(begun=False, budget=0))
    assert after(made) == EVERYTHING
    assert after(made, START_MARK) == {NEWLINE}
    assert allowed(constraint(spec(budget=0))) == {NEWLINE}
    assert after(constraint(spec(begun=False, budget=0)), A) == EVERYTHING


def test_a_marker_spelled_in_pieces_is_one_too() -> None:
    made = constraint(spec(begun=False, budget=2))
    assert after(made, LESS, THINK, CLOSES, A, B) == {NEWLINE}
    made = constraint(spec(budget=9))
    after(made, A, SLASH, THINK, CLOSES_ON, A)
    assert all(made.is_free(ahead) for ahead in range(20))


def test_what_has_no_end_marker_closes_nothing() -> None:
    wrong = ReasoningSpec("<think>", "</think>", budget=1, closing_token_ids=(NEWLINE, A))
    with pytest.raises(InvalidRequestError, match="do not spell '</think>'"):
        THINKING.constraint(SamplingParams(reasoning=wrong))


def test_a_grammar_begins_with_the_answer() -> None:
    made = constraint(spec(), DIGITS)
    assert after(made) == EVERYTHING - {END}
    assert after(made, A, NEWLINES, ONE) == EVERYTHING - {END}
    assert after(made, END_MARK) == {ONE, TWO, TWELVE, NEWLINE, NEWLINES}
    assert after(made, NEWLINES) == {ONE, TWO, TWELVE}  # one token of them
    assert after(made, TWELVE) == {ONE, TWO}
    assert not made.complete
    made.advance(ONE)
    assert made.complete


def test_a_grammar_may_begin_right_behind_the_marker() -> None:
    made = constraint(spec(), DIGITS)
    assert after(made, END_MARK, ONE, TWELVE) == {END}
    assert made.complete


def test_no_token_runs_on_behind_the_marker_where_a_grammar_waits() -> None:
    made = constraint(spec(), DIGITS)
    assert after(made, CLOSES_ON) == EVERYTHING - {END}  # which are ordinary tokens elsewhere
    assert after(made, SLASH) == EVERYTHING - {END}
    assert after(made, LESS) == EVERYTHING - {END}
    made = constraint(spec(), DIGITS)
    assert after(made, SLASH, THINK) == EVERYTHING - {END, CLOSES_ON, WORDS.index(">1")}
    assert after(made, CLOSES) == {ONE, TWO, TWELVE, NEWLINE, NEWLINES}


def test_a_model_may_open_the_block_or_answer_at_once() -> None:
    made = constraint(spec(begun=False), DIGITS)
    assert after(made) == {START_MARK, ONE, TWO, TWELVE}
    assert after(made, START_MARK, A, START_MARK) == EVERYTHING - {END}
    assert after(made, END_MARK) == {ONE, TWO, TWELVE, NEWLINE, NEWLINES}
    made = constraint(spec(begun=False), DIGITS)
    assert after(made, ONE) == {ONE, TWO, TWELVE}
    assert after(made, TWELVE) == {END}


def test_a_start_marker_of_several_tokens_is_written_out() -> None:
    pieces = ReasoningSpec("<think>", "</think>", start_token_ids=(LESS, THINK, CLOSES))
    made = constraint(pieces, DIGITS)
    assert after(made) == {LESS, ONE, TWO, TWELVE}
    assert after(made, LESS) == {THINK}
    assert after(made, THINK) == {CLOSES}
    assert after(made, CLOSES) == EVERYTHING - {END}
    tag = constraint(pieces, GrammarSpec(GrammarKind.REGEX, "<[ab]"))
    assert after(tag, LESS) == {A, B}  # which the answer begins with


def test_neither_end_nor_stop_tokens_end_an_answer_before_its_grammar() -> None:
    made = constraint(spec(), DIGITS, stop_token_ids=[B])
    assert after(made) == EVERYTHING - {END, B}
    assert after(made, END_MARK, TWELVE, ONE) == {END, B}


def test_budget_and_grammar_together() -> None:
    made = constraint(spec(budget=1), DIGITS)
    assert after(made) == EVERYTHING - {END}
    assert after(made, A) == {NEWLINE}
    assert after(made, NEWLINE) == {END_MARK}
    assert after(made, END_MARK) == {ONE, TWO, TWELVE, NEWLINE, NEWLINES}
    after(made, NEWLINES, TWELVE, ONE)
    assert made.complete


def test_masks_of_a_large_vocabulary_have_its_size() -> None:
    vocabulary = Vocabulary(TokenBytes([b"x"] * 100, frozenset()))
    assert vocabulary.only([0, 31, 32, 99]).tolist() == [1 | 1 << 31, 1, 0, 1 << 3]
    assert vocabulary.completing(b"xx", b"x").dtype == np.uint32


@given(
    st.lists(
        st.lists(st.sampled_from([b"a", b"b", b"\n", b"\xff"]), max_size=5).map(b"".join), min_size=1, max_size=70
    ),
    st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=3).map(b"".join),
    st.integers(0, 2),
)
def test_sets_of_tokens_are_told_by_their_bytes(table: list[bytes], marker: bytes, size: int) -> None:
    vocabulary, partial = Vocabulary(TokenBytes(table, frozenset())), marker[:size][: len(marker) - 1]

    def found(mask: TokenMask) -> list[bytes]:
        return [data for number, data in enumerate(table) if int(mask[number // 32]) >> number % 32 & 1]

    assert found(vocabulary.completing(marker, partial)) == [data for data in table if marker in partial + data]
    overrunning = [data for data in table if (partial + data).partition(marker)[2]]
    assert found(vocabulary.overrunning(marker, partial)) == overrunning
    assert found(vocabulary.newlines()) == [data for data in table if data and not data.strip(b"\n")]


SPECS = st.builds(spec, begun=st.booleans(), budget=st.sampled_from([None, 0, 1, 2, 5]))
GRAMMARS = st.sampled_from([None, DIGITS, GrammarSpec(GrammarKind.REGEX, "[ab]{0,3}\n?[12]")])


def walk(made: TokenConstraint, draws: Sequence[int]) -> list[int]:
    """Tokens drawn from what is allowed, up to the end."""
    tokens: list[int] = []
    for draw in draws:
        choices = sorted(allowed(made) - {END})
        if made.complete or not choices:
            break
        tokens.append(choices[draw % len(choices)])
        made.advance(tokens[-1])
    return tokens


@given(SPECS, GRAMMARS, st.lists(st.integers(0, 999), max_size=30), st.integers(0, 30))
def test_rewinding_undoes_tokens(
    reasoning: ReasoningSpec, grammar: GrammarSpec | None, draws: list[int], count: int
) -> None:
    if reasoning.budget is None and grammar is None:
        return
    made = constraint(reasoning, grammar)
    tokens = walk(made, draws)
    count = min(count, len(tokens))
    made.rewind(count)
    again = constraint(reasoning, grammar)
    for token in tokens[: len(tokens) - count]:
        again.advance(token)
    assert allowed(made) == allowed(again)
    assert (made.complete, made.is_free()) == (again.complete, again.is_free())


@given(SPECS.filter(lambda each: each.budget is not None), st.lists(st.integers(0, 999), max_size=30))
def test_reasoning_stays_within_its_budget(reasoning: ReasoningSpec, draws: list[int]) -> None:
    tokens = walk(constraint(reasoning), draws)
    markers = ReasoningMarkers(reasoning)
    reading, inside = markers.first, 0
    for token in tokens:
        inside += reading.place is Place.REASONING
        reading, _ = markers.follow(reading, TOKENS.of(token))
    assert inside <= (reasoning.budget or 0) + len(reasoning.closing_token_ids)


@given(
    SPECS.filter(lambda each: each.budget is not None),
    st.lists(st.integers(0, 999), max_size=12),
    st.lists(st.sampled_from(sorted(EVERYTHING - {END})), max_size=6),
)
def test_free_means_free_whatever_comes_first(reasoning: ReasoningSpec, draws: list[int], ahead: list[int]) -> None:
    """Where any token may come after so many unknown ones, no mask is asked for on the way, nor there."""
    made = constraint(reasoning)
    walk(made, draws)
    if not made.is_free(len(ahead)):
        return
    for left, token in zip(range(len(ahead), 0, -1), ahead, strict=True):
        assert made.is_free(left)
        made.advance(token)
    assert made.is_free()


@given(st.booleans(), st.sampled_from([None, 0, 3]), st.lists(st.integers(0, 999), min_size=60, max_size=60))
def test_every_answer_follows_the_grammar(begun: bool, budget: int | None, draws: list[int]) -> None:
    made = constraint(spec(begun=begun, budget=budget), DIGITS)
    tokens = walk(made, draws)
    markers = ReasoningMarkers(spec(begun=begun))
    text = b"".join(map(TOKENS.of, tokens))
    reading, _ = markers.follow(markers.first, text)
    if made.complete:
        assert reading.place is Place.ANSWER
        answer = text.split(b"</think>", 1)[-1] if reading.closed else text
        assert answer.strip(b"\n").isdigit()
        assert len(answer.strip(b"\n")) == 3
    else:
        assert reading.place is Place.REASONING  # and nothing else may take so long
