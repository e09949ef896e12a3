from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from server.validation import MAX_DEPTH, parse_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_json_comes_through(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":\n 1,}', "line 2"),
        (b"{} x", "Extra data"),
        (b'{"a": "\n"}', "Invalid control character at line 1, column 8."),
        (b'{"a": "', "Unterminated string starting at line 1, column 7."),
        ('{"a": "é"}'.encode("latin-1"), "byte 7 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"1" * 5000, "too many digits"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "levels deep"),
        (b"[" * 100_000, "levels deep"),
        (b'{"a": "\\uDC00"}', "surrogate"),
        (b'{"\\ud83d": 1}', "surrogate"),
    ],
)
def test_malformed_json_is_explained(body: bytes, reason: str) -> None:
    with pytest.raises(HTTPException) as refused:
        parse_json(body)
    assert refused.value.status_code == 400
    assert reason in refused.value.detail


def test_what_looks_malformed_but_is_not() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}
    assert parse_json(b'"\\ud83d\\ude00"') == "😀"
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert json.dumps(parse_json(deep)).encode() == deep
    wide = b"[" + b",".join([b"[]"] * 500) + b"]"
    assert len(parse_json(wide)) == 500
