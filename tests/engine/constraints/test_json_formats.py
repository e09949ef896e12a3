"""Dates and times: exactly those there are."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.json_formats import with_exact_formats
from engine.types import GrammarKind
from tests.engine.constraints.test_grammar import accepts


def pattern(name: str) -> str:
    changed = with_exact_formats({"format": name})
    assert "format" not in changed
    found: str = changed["pattern"]
    return found


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_a_date_is_one_that_there_is(year: int, month: int, day: int) -> None:
    try:
        datetime.date(year, month, day)
        there_is = True
    except ValueError:
        there_is = False
    assert bool(re.search(pattern("date"), f"{year:04}-{month:02}-{day:02}")) == there_is


@pytest.mark.parametrize("year", [1600, 1700, 1900, 1996, 2000, 2023, 2024, 2100, 2400, 4, 100, 400])
def test_leap_years(year: int) -> None:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    assert bool(re.search(pattern("date"), f"{year:04}-02-29")) == leap


@given(st.datetimes(timezones=st.timezones()))
def test_every_moment_python_writes_is_a_date_time(moment: datetime.datetime) -> None:
    text = moment.isoformat()
    if moment.utcoffset() is not None and moment.utcoffset().total_seconds() % 60 == 0:  # type: ignore[union-attr]
        assert re.search(pattern("date-time"), text)
        assert re.search(pattern("time"), text.partition("T")[2])


@pytest.mark.parametrize(
    "text", ["24:00:00Z", "23:60:00Z", "23:59:60Z", "12:00:00", "12:00Z", "12:00:00+24:00", "1:00:00Z"]
)
def test_times_that_there_are_not(text: str) -> None:
    assert not re.search(pattern("time"), text)
    assert not re.search(pattern("date-time"), f"2024-01-01T{text}")


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"x"']),
        ({"format": "date"}, ['"2024-02-29"', "1"], ['"2023-02-29"']),
        ({"type": "string", "format": "time"}, ['"23:59:59.5Z"'], ['"23:59:60Z"']),
        ({"type": "string", "format": "date-time"}, ['"2024-02-29T00:00:00+01:30"'], ['"2024-02-30T00:00:00Z"']),
        ({"type": "string", "format": "date", "pattern": "^2"}, ['"2024-02-29"'], ['"1996-02-29"', '"2023-02-29"']),
        (
            {"type": "string", "format": "date", "pattern": "^2", "allOf": [{"pattern": "9$"}]},
            ['"2024-02-29"'],
            ['"2024-02-28"', '"2023-02-29"'],
        ),
        (
            {
                "$defs": {"format": {"type": "string", "format": "date"}},
                "type": "array",
                "items": {"$ref": "#/$defs/format"},
            },
            ['["2024-02-29"]'],
            ['["2023-02-29"]'],
        ),
        (
            {
                "type": "object",
                "properties": {"format": {"enum": ["date", {"format": "date"}]}},
                "required": ["format"],
            },
            ['{"format": "date"}', '{"format": {"format": "date"}}'],
            ['{"format": {"pattern": ""}}'],
        ),
        ({"type": "string", "format": "uuid"}, ['"00000000-0000-0000-0000-00000000000f"'], ['"f"']),
    ],
)
def test_in_schemas(schema: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(GrammarKind.JSON_SCHEMA, schema, text)] == []
    assert [text for text in bad if accepts(GrammarKind.JSON_SCHEMA, schema, text)] == []


def test_what_is_no_date_stays_as_it_is() -> None:
    schema = {"format": "ipv4", "const": {"format": "date"}, "items": [{"x": 1}], "default": {"format": "time"}}
    assert with_exact_formats(schema) == schema
    assert with_exact_formats(True) is True
