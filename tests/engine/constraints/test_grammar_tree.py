"""Grammars put together from parts, on the same vocabulary as the other grammars."""

from __future__ import annotations

from typing import Any

import pytest

from engine.constraints.grammar_tree import tree_to_lark
from engine.types import GrammarKind
from tests.engine.constraints.test_grammar import (
    EOS,
    FIRST_BYTE,
    PERSON,
    TOKENS,
    accepts,
    allowed,
    compiled,
    feed,
    refusal,
)

SPECIAL = 1
A, B = {"type": "text", "text": 'a"\n'}, {"type": "text", "text": "b/\\"}
PERSON_TEXT = '{"name": "x", "age": 1}'


def tree(kind: str, **keys: Any) -> dict[str, Any]:
    return {"type": kind, **keys}


def named(name: str, part: Any = None) -> dict[str, Any]:
    return tree("named", name=name, part=part)


UNTIL = tree("sequence", parts=[tree("until", end={"type": "text", "text": "</p>"}, without=["\n/[", "a"]), B])


def repeated(least: int, most: int | None, separator: Any = None) -> dict[str, Any]:
    return tree("repeat", of=A, separator=separator, min=least, max=most)


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (A, ['a"\n'], ["", "a", 'a"\n.']),
        (tree("json", schema=PERSON), [PERSON_TEXT], ["{}", PERSON_TEXT + "}"]),
        (tree("regex", pattern="[ab]{2}/"), ["ab/"], ["a/", "ab/c"]),
        (tree("sequence", parts=[A, B]), ['a"\nb/\\'], ['a"\n']),
        (tree("choice", of=[A, B]), ['a"\n', "b/\\"], ['a"\nb/\\']),
        (repeated(1, 1), ['a"\n'], ['a"\na"\n']),
        (repeated(1, None), ['a"\n', 'a"\n' * 5], [""]),
        (tree("sequence", parts=[B, repeated(0, 1)]), ["b/\\", 'b/\\a"\n'], ['b/\\a"\na"\n']),
        (tree("sequence", parts=[repeated(0, None, B), B]), ["b/\\", 'a"\nb/\\a"\nb/\\'], ['a"\na"\nb/\\', 'a"\n']),
        (
            UNTIL,
            ["!</p>b/\\", "</p>b/\\", "é\n</p\n!</p>b/\\"],
            ["!", "<p>", "!</p>", "!</p>!</p>b/\\", "\n/[</p>b/\\"],
        ),
        (tree("until", end=None, without=["<p>", "</p>"]), ["", "<p", "é</p\n>"], ["<p>", "é</p>"]),
        (tree("sequence", parts=[named("a", A), B, named("a"), named("a")]), ['a"\nb/\\a"\na"\n'], ['a"\nb/\\a"\n']),
        (repeated(2, 3, B), ['a"\nb/\\a"\n', 'a"\nb/\\a"\nb/\\a"\n'], ['a"\n', 'a"\na"\n', 'a"\n' + 'b/\\a"\n' * 3]),
    ],
)
def test_parts_allow_what_they_say(grammar: Any, right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert accepts(GrammarKind.TREE, grammar, text), text
    for text in wrong:
        assert not accepts(GrammarKind.TREE, grammar, text), text


@pytest.mark.parametrize("many", [True, False])
def test_a_trigger_in_free_text_must_be_followed_by_its_part(many: bool) -> None:
    then = tree("sequence", parts=[tree("json", schema=PERSON), {"type": "text", "text": "]"}])
    grammar = tree("free", parts=[{"trigger": {"type": "text", "text": "<t>"}, "then": then}], repeat=many)
    part = f"<t>{PERSON_TEXT}]"
    for text in ("", "é < t>", part, f"free {part}"):
        assert accepts(GrammarKind.TREE, grammar, text), text
    for text in ("<t>", "<t> and on", f"{part}<t>"):
        assert not accepts(GrammarKind.TREE, grammar, text), text
    assert accepts(GrammarKind.TREE, grammar, f"{part} free") == many
    assert accepts(GrammarKind.TREE, grammar, f"{part} and {part}") == many


@pytest.mark.parametrize("many", [True, False])
def test_a_trigger_may_be_a_special_token(many: bool) -> None:
    grammar = tree("free", parts=[{"trigger": tree("token", id=SPECIAL), "then": B}], repeat=many)
    constraint = compiled(GrammarKind.TREE, grammar)
    assert feed(constraint, TOKENS.of(SPECIAL).decode())  # its spelling is ordinary text
    assert SPECIAL in allowed(constraint)
    constraint.advance(SPECIAL)
    assert allowed(constraint) == {FIRST_BYTE + ord("b")}
    assert feed(constraint, "b/\\")
    assert EOS in allowed(constraint)
    assert (SPECIAL in allowed(constraint)) == many


def test_a_text_may_end_with_a_special_token() -> None:
    grammar = tree("sequence", parts=[tree("until", end=tree("token", id=SPECIAL), without=["b"]), A])
    constraint = compiled(GrammarKind.TREE, grammar)
    assert feed(constraint, TOKENS.of(SPECIAL).decode())
    assert FIRST_BYTE + ord("b") not in allowed(constraint)
    constraint.advance(SPECIAL)
    assert feed(constraint, 'a"\n')


def test_a_special_token_is_not_its_spelling() -> None:
    constraint = compiled(GrammarKind.TREE, tree("sequence", parts=[tree("token", id=SPECIAL), A]))
    assert allowed(constraint) == {SPECIAL}
    constraint = compiled(GrammarKind.TREE, {"type": "text", "text": TOKENS.of(SPECIAL).decode()})
    assert SPECIAL not in allowed(constraint)


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ([], "an object with a 'type'"),
        ({"type": "texts", "text": "a"}, "an object with a 'type'"),
        ({"type": ["text"]}, "an object with a 'type'"),
        ({"type": "text"}, "must have 'text'"),
        ({"type": "text", "text": "a", "more": 1}, "no more"),
        ({"type": "text", "text": ""}, "a text is empty"),
        (tree("token", id=True), "'id' of a part of type 'token' cannot be True"),
        (tree("token", id=-1), "'id' of a part of type 'token' cannot be -1"),
        (tree("regex", pattern=""), "expression is empty"),
        (tree("json", schema=[]), "'schema' of a part"),
        (tree("json", schema={"type": "object", "x-guidance": {}}), "x-guidance"),
        (tree("sequence", parts=[]), "a list of parts is empty"),
        (tree("choice", of=[3]), "an object with a 'type'"),
        (named("a"), "no part before has the name 'a'"),
        (tree("sequence", parts=[named("a", A), named("a", B)]), "two parts have the name 'a'"),
        (tree("choice", of=[named("a"), named("a", A)]), "no part before has the name 'a'"),
        (named("a", tree("sequence", parts=[A, named("a")])), "no part before has the name 'a'"),
        (repeated(-1, 1), "-1 to 1 times"),
        (repeated(0, 0), "0 to 0 times"),
        (tree("until", end=tree("regex", pattern="a"), without=[]), "a text or a token"),
        (tree("until", end=A, without=[3]), "a list of texts"),
        (tree("until", end=A, without=[""]), "a text is empty"),
        (repeated(3, 2), "3 to 2 times"),
        (tree("free", parts=[], repeat=True), "no parts"),
        (tree("free", parts=[{"trigger": tree("regex", pattern="a"), "then": A}], repeat=True), "a text or a token"),
        (tree("free", parts=[{"trigger": A}], repeat=True), "'trigger' and 'then'"),
        (tree("token", id=10**6), "cannot be used"),
    ],
)
def test_other_forms_are_refused(grammar: Any, said: str) -> None:
    assert said in refusal(GrammarKind.TREE, grammar)


def test_equal_parts_are_written_once() -> None:
    once = tree_to_lark(tree("choice", of=[UNTIL]), str, str)
    often = tree_to_lark(tree("choice", of=[UNTIL] * 50), str, str)

    assert len(often.splitlines()) == len(once.splitlines())


def test_deep_nesting_is_refused() -> None:
    grammar: dict[str, Any] = A
    for _ in range(16):
        grammar = tree("sequence", parts=[grammar])
    assert "nested more than 16 levels" in refusal(GrammarKind.TREE, grammar)
