"""Structural tags: free text around parts that follow a schema."""

from __future__ import annotations

from typing import Any

import pytest

from engine.types import GrammarKind
from tests.engine.constraints.test_grammar import EOS, accepts, allowed, compiled, feed, refusal

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
TAGS = {
    "structures": [
        {"begin": "<f=add>", "schema": POINT, "end": "</f>"},
        {"begin": "<f=say>", "schema": {"enum": ["a", "b"]}, "end": "</f>"},
        {"begin": "[[", "schema": {"type": "boolean"}, "end": "]]"},
    ],
    "triggers": ["<f=", "[["],
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello.",
        "é\n<f [ <",
        '<f=add>{"x": 1}</f>',
        'one <f=say>"a"</f> two [[true]] <f=say>"b"</f>',
        '<<f=add>{"x":1}</f>',
        "[[[true]]".replace("[[[", "[ [["),
    ],
)
def test_text_with_whole_parts(text: str) -> None:
    assert accepts(GrammarKind.STRUCTURAL_TAG, TAGS, text)


@pytest.mark.parametrize(
    "text",
    [
        "<f=",
        "<f= and more",
        "<f=other>",
        '<f=add>{"y": 1}</f>',
        '<f=add>{"x": 1}',
        '<f=add>{"x": 1} </f>',
        '<f=say>"c"</f>',
        "x [[true] ]",
        'fine <f=say>"a"</f> and then <f=',
    ],
)
def test_text_with_broken_parts(text: str) -> None:
    assert not accepts(GrammarKind.STRUCTURAL_TAG, TAGS, text)


def test_an_answer_may_end_between_parts_and_not_within() -> None:
    constraint = compiled(GrammarKind.STRUCTURAL_TAG, TAGS)
    ends = []
    for character in 'a<f=say>"a"</f>b':
        assert feed(constraint, character)
        ends.append(EOS in allowed(constraint))
    assert ends == [True] * 3 + [False] * 11 + [True] * 2


def test_of_two_triggers_the_shorter_one_counts() -> None:
    structures = [{"begin": "<f=a>", "schema": True, "end": ""}, {"begin": "<f>", "schema": True, "end": "</f>"}]
    tags = {"type": "structural_tag", "structures": structures, "triggers": ["<f=", "<f"]}
    assert accepts(GrammarKind.STRUCTURAL_TAG, tags, "x<f=a>[1]")
    assert accepts(GrammarKind.STRUCTURAL_TAG, tags, "<f>null</f>")
    assert not accepts(GrammarKind.STRUCTURAL_TAG, tags, "<fish")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"triggers": ["<g"]}, "'<f=add>'"),
        ({"triggers": []}, "triggers"),
        ({"triggers": [""]}, "triggers"),
        ({"structures": []}, "structures"),
        ({"structures": [{"begin": "<f=", "schema": {}}]}, "'end'"),
        ({"structures": [{"begin": "<f=", "schema": {"uniqueItems": True}, "end": ""}]}, "uniqueItems"),
        ({"structures": [{"begin": 1, "schema": {}, "end": ""}]}, "'begin'"),
        ({"format": {"type": "any_text"}}, "'format'"),
    ],
)
def test_tags_that_cannot_be_used(change: dict[str, Any], named: str) -> None:
    assert named in refusal(GrammarKind.STRUCTURAL_TAG, {**TAGS, **change})
