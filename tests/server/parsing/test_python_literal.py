from __future__ import annotations

import ast
import json
import re
import sys
import warnings

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.parsing.python_literal import MOST_NESTED, literal_to_json, unescaped

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
literals = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10
)


@given(literals)
def test_what_python_prints_is_read_as_what_it_is(value: object) -> None:
    written = literal_to_json(repr(value))

    assert written is not None
    assert json.loads(written) == value


@given(literals)
def test_json_is_read_too(value: object) -> None:
    written = literal_to_json(json.dumps(value))

    assert written is not None
    assert json.loads(written) == value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("(1, 'a',)", [1, "a"]),
        ("()", []),
        ("(5)", 5),
        ("[(1,), [2,],]", [[1], [2]]),
        ("-1_000", -1000),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("0x1F", 31),
        ("{1: 'a', None: 2, 2.5: True}", {"1": "a", "null": 2, "2.5": True}),
        ("'it\\'s' \" two\"", "it's two"),
        ("'''a\n'b' ''c'''", "a\n'b' ''c"),
        ('""', ""),
        (r"r'\d+\n'", r"\d+\n"),
        (r"'\x41\u00e9\U0001F600\101\N{BULLET}\q\''", "Aé😀A•\\q'"),
        (r"'\ud83d\ude00 \ud83d'", "😀 �"),
        (r"'a\/b'", "a/b"),
        ("1e999", float("inf")),
        ("'one\\\n line'", "one line"),
        (" [ true , null ] ", [True, None]),
    ],
)
def test_notation(source: str, expected: object) -> None:
    written = literal_to_json(source)

    assert written is not None
    assert json.loads(written) == expected


@pytest.mark.parametrize(
    "source",
    [
        "",
        "x",
        "[1 2]",
        "[1",
        "{1}",
        "{[1]: 2}",
        "f(1)",
        "1 + 2",
        "5j",
        "1.2.3",
        "nan",
        "b'x'",
        "f'x'",
        "'open",
        "[,]",
        "--1",
        "__import__('os')",
        "[x for x in y]",
        "*a",
        "lambda: 1",
        "1 if 2 else 3",
        "٣",
    ],
)
def test_all_else_is_no_literal(source: str) -> None:
    assert literal_to_json(source) is None


def test_long_numbers_are_refused() -> None:
    assert literal_to_json("9" * 401) is None
    assert literal_to_json("9" * 200_000 + "x") is None


def test_deep_nesting_is_refused_and_never_overflows() -> None:
    deep = "[" * MOST_NESTED + "]" * MOST_NESTED

    assert literal_to_json(deep) == deep
    assert literal_to_json(f"[{deep}]") is None
    for text in ("[", "(", "{1:", "-", "('a' ", "not ", "a."):
        assert literal_to_json(text * 10 * sys.getrecursionlimit()) is None


@given(st.text(st.sampled_from("\\'\"nxuUN{}0189aAdDcC8 \n"), max_size=20))
def test_escapes_mean_what_they_mean_to_python(body: str) -> None:
    assume("'" not in re.sub(r"(?s)\\.", "", body))  # it would end the literal, or begin another one beside it
    try:
        with warnings.catch_warnings(action="ignore"):
            expected = ast.literal_eval(f"'''{body}'''")
    except (SyntaxError, ValueError):
        unescaped(body)
        return
    if isinstance(expected, str) and not any("\ud800" <= character < "\ue000" for character in expected):
        assert unescaped(body) == expected
