from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.parsing.argument_types import ANY
from server.parsing.argument_writer import ArgumentsWriter, ValueWriter, text_to_json
from tests.server.parsing.laws import cut, places

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["true", "True ", " none", "null", "12", "-1.5e3", "[1, 2]", "['a', None]", '{"a": "b"}', "{", "[x"]
    ),
    st.text(st.sampled_from("0123456789.-+eE \n"), max_size=12),
    st.text(st.sampled_from("truefalsnTFN "), max_size=6),
)
some_types = st.sets(st.sampled_from(sorted(ANY)), min_size=1).map(frozenset)


def written(pieces: Sequence[str], types: frozenset[str]) -> str:
    writer = ValueWriter(types)
    return "".join([writer.feed(piece) for piece in pieces]) + writer.end()


@given(texts, some_types, places())
def test_a_value_is_json_and_the_same_however_it_comes(text: str, types: frozenset[str], places: list[int]) -> None:
    whole = written([text], types)

    assert written(cut(text, places), types) == written(list(text), types) == whole == text_to_json(text, types)
    value = json.loads(whole)
    assert isinstance(value, str) or types != {"string"}
    if types == {"string"}:
        assert value == text


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("5", {"string"}, "5"),
        ("5", {"integer"}, 5),
        ("5", {"string", "null"}, "5"),
        ("5", ANY, 5),
        ("5.5", {"integer"}, 5.5),
        ("1e999", {"number"}, float("inf")),
        ("null", {"string"}, "null"),
        ("null", {"string", "null"}, None),
        ("None", {"string", "null"}, None),
        ("none", {"string", "null"}, "none"),
        ("NONE", {"null"}, None),
        ("TRUE", {"boolean"}, True),
        ("True", {"string", "null"}, "True"),
        ("nothing", {"string", "null"}, "nothing"),
        ("True", {"boolean"}, True),
        (" false\n", {"boolean"}, False),
        ("true", {"string", "integer"}, "true"),
        ('"quoted"', ANY, '"quoted"'),
        ('"quoted"', {"array"}, "quoted"),
        ("['a', None, -1]", {"array"}, ["a", None, -1]),
        ("{'a': True}", {"object"}, {"a": True}),
        ("[1, 2", {"array"}, "[1, 2"),
        ("(see below)", ANY, "(see below)"),
        ("NaN", {"number"}, "NaN"),
        ("2024-01-01", ANY, "2024-01-01"),
        ("", {"integer"}, ""),
    ],
)
def test_the_schema_decides_what_a_text_means(text: str, types: set[str], expected: object) -> None:
    assert json.loads(text_to_json(text, frozenset(types))) == expected


def test_numbers_keep_their_digits() -> None:
    assert text_to_json("1.00000000000000000001", frozenset({"number", "integer"})) == "1.00000000000000000001"


@pytest.mark.parametrize("types", [{"string"}, {"string", "null"}, ANY])
def test_a_long_string_goes_out_as_it_comes(types: set[str]) -> None:
    writer = ValueWriter(frozenset(types))

    assert writer.feed("def main") == '"def main'
    assert writer.feed('(): "') == '(): \\"'
    assert writer.end() == '"'


@pytest.mark.parametrize(("text", "types"), [("nul", {"string", "null"}), ("12", ANY), ("[1", ANY), ("x", {"array"})])
def test_what_may_be_no_string_waits(text: str, types: set[str]) -> None:
    assert ValueWriter(frozenset(types)).feed(text) == ""


def test_very_long_numbers_do_not_wait_for_ever() -> None:
    assert written(["9" * 300, "9" * 300], ANY) == '"' + "9" * 600 + '"'


@given(st.lists(st.tuples(st.text(max_size=3), texts), max_size=4))
def test_arguments_make_one_object(arguments: list[tuple[str, str]]) -> None:
    writer = ArgumentsWriter({"properties": {"": {"type": "string"}}})
    out = ""
    for name, text in arguments:
        writer.begin(name)
        out += writer.feed(text) + writer.end()
    value = json.loads(out + writer.close(), object_pairs_hook=lambda pairs: pairs)

    first_of_each: dict[str, Any] = dict(reversed(arguments))
    assert [name for name, _ in value or []] == list(dict.fromkeys(name for name, _ in arguments))
    assert all(value == first_of_each[""] for name, value in value or [] if name == "")


def test_no_arguments_are_an_empty_object() -> None:
    assert ArgumentsWriter(None).close() == "{}"


def test_a_literal_is_the_argument_in_pythons_notation() -> None:
    writer = ArgumentsWriter({"properties": {"zip": {"type": "string"}}})
    writer.begin("n")
    first = writer.literal("-1_000")
    writer.begin("zip")
    second = writer.literal("07030")
    writer.begin("other")
    assert first + second + writer.literal("a variable") + writer.close() == (
        '{"n": -1000, "zip": "07030", "other": "a variable"}'
    )
