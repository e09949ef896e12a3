"""How an answer of the demo model is scored against what `eval.jsonl` expects."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
COPYING = ("Write this", "Turn this", "Make JSON from")
"""Beginnings of JSON requests that state every value, so that the values can be checked too."""


class Score(NamedTuple):
    """How often a measure was met."""

    right: int
    asked: int

    @property
    def percent(self) -> float:
        return 100.0 * self.right / self.asked


def parsed(text: str) -> Any:
    """The JSON value of a text, or None."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def measures(item: Mapping[str, Any], answer: str) -> dict[str, bool]:
    """Every measure that applies to one item of `eval.jsonl`, and whether the answer meets it."""
    kind, expected = item["kind"], item["expected"]
    if kind == "tool":
        return tool_measures(expected, answer)
    if kind == "json":
        return json_measures(item["messages"][-1]["content"], json.loads(expected), answer)
    return {f"{kind}: exact": answer == expected}


def tool_measures(expected: list[dict[str, Any]], answer: str) -> dict[str, bool]:
    """Calls have to parse, then to name the right tools, then to carry the right arguments."""
    calls = [parsed(body) for body in CALL.findall(answer)]
    valid = bool(calls) and all(isinstance(call, dict) and {"name", "arguments"} <= set(call) for call in calls)
    named = valid and [call["name"] for call in calls] == [call["name"] for call in expected]
    return {
        "tool: valid calls": valid,
        "tool: right names": named,
        "tool: right names and arguments": named and calls == expected,
    }


def json_measures(question: str, wanted: dict[str, Any], answer: str) -> dict[str, bool]:
    """The answer has to be one object, with the keys in order, and with the values where the request gives them."""
    value = parsed(answer)
    met = {
        "json: parses": isinstance(value, dict),
        "json: right keys": isinstance(value, dict) and list(value) == list(wanted),
    }
    if question.startswith(COPYING) or "Give me that as JSON" in question:
        met["json: right values, where given"] = value == wanted
    return met


def totals(results: Iterable[Mapping[str, bool]]) -> dict[str, Score]:
    """Scores per measure, by name."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        for measure, right in result.items():
            counts[measure].append(right)
    return {measure: Score(sum(values), len(values)) for measure, values in sorted(counts.items())}
