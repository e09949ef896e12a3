"""Trying grammars out: what compiles and then gets stuck or slow must be found before anybody is answered."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest

from engine.constraints.base import TokenConstraint, TokenMask
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_trial import MOST_SLOW_STEPS, STEPS, WALKS, try_grammar
from engine.errors import ConstraintError, InvalidRequestError
from engine.text.token_bytes import TokenBytes
from engine.types import GrammarKind, GrammarSpec

VOCAB_SIZE = 257
ENDS = (256,)
COMPILER = GrammarCompiler(TokenBytes([*(bytes([byte]) for byte in range(256)), b""], frozenset({256})), [256])


class Endless:
    """Allows every token; `stuck_at` tokens it knows no further."""

    complete = False

    def __init__(self, steps: list[int], stuck_at: int | None) -> None:
        self._steps = steps
        self._stuck_at = stuck_at
        self._length = 0

    def is_free(self, ahead: int = 0) -> bool:
        return False

    def mask(self) -> TokenMask:
        if self._length == self._stuck_at:
            raise ConstraintError("It is stuck.", ("",))
        return np.full(-(-VOCAB_SIZE // 32), 0xFFFFFFFF, np.uint32)

    def advance(self, token_id: int) -> None:
        assert 0 <= token_id < VOCAB_SIZE
        assert token_id not in ENDS
        self._length += 1
        self._steps.append(token_id)

    def rewind(self, count: int) -> None:
        raise NotImplementedError


class Grammar:
    def __init__(self, stuck_at: int | None = None) -> None:
        self.steps: list[int] = []
        self._stuck_at = stuck_at

    def constraint(self, request_id: str = "", stop_token_ids: Sequence[int] = ()) -> TokenConstraint:
        return Endless(self.steps, self._stuck_at)


def test_several_answers_are_begun_always_the_same_ones() -> None:
    one, other = Grammar(), Grammar()
    try_grammar(one, VOCAB_SIZE, ENDS)
    try_grammar(other, VOCAB_SIZE, ENDS)
    assert len(one.steps) == WALKS * STEPS
    assert one.steps == other.steps
    assert one.steps[:STEPS] != one.steps[STEPS : 2 * STEPS]


def test_a_grammar_that_gets_stuck_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="too complex") as caught:
        try_grammar(Grammar(stuck_at=STEPS - 1), VOCAB_SIZE, ENDS)
    assert caught.value.param == "grammar"


@pytest.mark.parametrize(("slow", "refused"), [(MOST_SLOW_STEPS, False), (MOST_SLOW_STEPS + 1, True)])
def test_a_grammar_that_is_slow_again_and_again_is_refused(slow: int, refused: bool) -> None:
    readings = itertools.accumulate(itertools.chain([0.0], [0.0, 1.0] * slow, itertools.repeat(0.0)))
    readings = itertools.islice(readings, 1, None)
    if not refused:
        try_grammar(Grammar(), VOCAB_SIZE, ENDS, clock=readings.__next__)
        return
    with pytest.raises(InvalidRequestError, match="too long"):
        try_grammar(Grammar(), VOCAB_SIZE, ENDS, clock=readings.__next__)


@pytest.mark.parametrize(
    "spec",
    [
        GrammarSpec(GrammarKind.JSON_OBJECT),
        GrammarSpec(GrammarKind.REGEX, "a|bc"),
        GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps({"enum": [f"value {number}" for number in range(2000)]})),
        GrammarSpec(GrammarKind.CHOICE, json.dumps([f"choice {number}" for number in range(500)])),
    ],
)
def test_ordinary_grammars_pass(spec: GrammarSpec) -> None:
    try_grammar(COMPILER.compile(spec), VOCAB_SIZE, ENDS)


def test_one_that_becomes_too_complex_after_some_tokens_is_refused() -> None:
    grammar = COMPILER.compile(GrammarSpec(GrammarKind.LARK, 'start: s\ns: s s | "a" | s s s'))
    with pytest.raises(InvalidRequestError, match="too complex"):
        try_grammar(grammar, VOCAB_SIZE, ENDS)
