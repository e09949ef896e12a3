from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.parsing.json_scanner import JsonScanner
from tests.server.parsing.laws import cut, places

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def scanned(pieces: list[str]) -> tuple[str, bool, bool]:
    scanner, value = JsonScanner(), ""
    for piece in pieces:
        value += piece[: scanner.feed(piece)]
        if scanner.ended:
            break
    return value, scanner.ended, scanner.whole


@given(VALUES, st.sampled_from([",", "}", "]", " ", "\n"]), st.booleans(), st.sampled_from([None, 2]), places())
def test_a_value_ends_where_json_says(
    value: object, behind: str, ascii_only: bool, indent: int, cuts: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert scanned(cut(text + behind + '"x"', cuts)) == (text, True, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"a": [1}', '{"a": [1'), ('{"a": 1</end>', '{"a": 1'), ("]", ""), (",", ""), ('{"a": "<" <', '{"a": "<" ')],
)
def test_broken_json_ends_before_what_cannot_stand_there(text: str, value: str) -> None:
    assert scanned([text]) == (value, True, False)


@pytest.mark.parametrize("text", ['{"a": "}', '"\\"', "[[]", "tru", '{"a": "\\'])
def test_what_is_cut_off_has_not_ended(text: str) -> None:
    assert scanned([text]) == (text, False, False)


@given(st.text(alphabet='{}[]":,\\ a1<', max_size=20).filter(lambda text: text[:1] not in ("", " ")), places())
def test_any_cut_of_any_text_gives_the_same(text: str, cuts: list[int]) -> None:
    assert scanned(cut(text, cuts)) == scanned([text]) == scanned(list(text))
