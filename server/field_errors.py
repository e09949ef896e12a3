"""What is wrong with fields of a body, in the words of the OpenAI API: the only place that reads pydantic's findings.

Nothing of pydantic's own wording gets out: it speaks of Python's types, and changes with its version.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import InvalidRequestError
from server.schemas.base import FieldPath

LONGEST_QUOTE = 64
"""Characters of a value that a message shows."""

_EXPECTED: Mapping[str, str] = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""By pydantic's name for a value of the wrong type, what type it is to have."""


class _Finding(NamedTuple):
    """What one form of a field says about a value.

    Attributes:
        path: of the value in the body.
        form: the members of unions on the way to it; what is no union has none.
        kind: pydantic's name for it.
        value: what was found there.
        limits: what was expected, where `kind` alone does not tell.
    """

    path: FieldPath
    form: tuple[str | int, ...]
    kind: str
    value: Any
    limits: Mapping[str, Any]

    @property
    def expected(self) -> str | None:
        """The type that was wanted; None if the type is right and the value is not."""
        if self.kind == "literal_error":
            return None if isinstance(self.value, str) else "a string"
        return _EXPECTED.get(self.kind)


def explain(findings: Sequence[Any], body: Any) -> InvalidRequestError:
    """The one error that says best what pydantic found.

    Where a field may have several forms pydantic reports findings for each; the one that fitted furthest is the form
    the caller meant.

    Args:
        findings: pydantic's `errors()`, locations starting with `body`, `path` or `query`.
        body: the parsed body they are about.
    """
    first_of_form: dict[tuple[str | int, ...], _Finding] = {}
    for each in (_finding(finding, body) for finding in findings):
        first_of_form.setdefault(each.form, each)
    firsts = list(first_of_form.values())
    path = max(firsts, key=lambda each: _reach(each.path)).path
    if not path:
        return InvalidRequestError("Invalid request body: expected a JSON object.", code="invalid_type")
    return _error(path, [each for each in firsts if each.path == path])


def missing(param: str) -> InvalidRequestError:
    """The error for a field that must be there.

    Args:
        param: as `spell` spells it.
    """
    return InvalidRequestError(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def spell(path: Sequence[str | int]) -> str:
    """A place in a body as messages and headers name it: `messages[0].role`."""
    spelled = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return spelled.removeprefix(".")


def _finding(finding: Any, body: Any) -> _Finding:
    kind, location = finding["type"], finding["loc"]
    if location[0] != "body":
        return _Finding(tuple(location[1:]), (), kind, finding["input"], finding.get("ctx", {}))
    path: list[str | int] = []
    form: list[str | int] = []
    node = body
    for step in location[1:]:
        inside = isinstance(node, dict) and step in node
        if inside or (isinstance(node, list) and isinstance(step, int) and step < len(node)):
            node = node[step]
            path.append(step)
        else:
            form.append(step)
    if kind == "missing" and isinstance(node, dict):
        path.append(form.pop())
    return _Finding(tuple(path), tuple(form), kind, finding["input"], finding.get("ctx", {}))


def _reach(path: FieldPath) -> tuple[int, tuple[int, ...]]:
    """How far into a body a path leads: deeper is further, and so is later in a list."""
    return len(path), tuple(step for step in path if isinstance(step, int))


def _error(path: FieldPath, findings: Sequence[_Finding]) -> InvalidRequestError:
    param = spell(path)
    if all(each.kind == "missing" for each in findings):
        return missing(param)
    expected = list(dict.fromkeys(each.expected for each in findings if each.expected is not None))
    wrong_value = next((each for each in findings if each.expected is None), None)
    if wrong_value is not None:
        others = (
            f" {_alternatives(expected).capitalize()} is taken, too."
            if expected and wrong_value.kind == "literal_error"
            else ""
        )
        return InvalidRequestError(f"{_about_value(param, wrong_value)}{others}", param=param)
    wanted = f"{'one of ' if len(expected) > 1 else ''}{_alternatives(expected)}"
    message = f"Invalid type for '{param}': expected {wanted}, but got {_type_of(findings[0].value)} instead."
    return InvalidRequestError(message, param=param, code="invalid_type")


def _about_value(param: str, finding: _Finding) -> str:
    """The message for a value of the right type."""
    got, limits = _quoted(finding.value), finding.limits
    match finding.kind:
        case "literal_error":
            return f"Invalid value for '{param}': {got}. Supported values are: {limits['expected']}."
        case "greater_than_equal":
            return f"Invalid '{param}': below the minimum. Expected a value >= {limits['ge']}, but got {got} instead."
        case "greater_than":
            return f"Invalid '{param}': below the minimum. Expected a value > {limits['gt']}, but got {got} instead."
        case "less_than_equal":
            return f"Invalid '{param}': above the maximum. Expected a value <= {limits['le']}, but got {got} instead."
        case "finite_number":
            return f"Invalid '{param}': expected a finite number, but got {got} instead."
        case "too_short":
            return f"Invalid '{param}': expected an array of at least {_items(limits)}, but got {len(finding.value)}."
        case "string_too_short":
            return f"Invalid '{param}': empty string. Expected a string of at least one character."
        case "string_pattern_mismatch":
            return f"Invalid '{param}': {got} does not match the pattern {limits['pattern']}."
        case _:
            return f"Invalid value for '{param}': {got}."


def _items(limits: Mapping[str, Any]) -> str:
    count = limits["min_length"]
    return "one item" if count == 1 else f"{count} items"


def _alternatives(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _quoted(value: Any) -> str:
    """A value, shortened, as JSON has it or would."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"'{value[:LONGEST_QUOTE]}'" if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_QUOTE + 2 else f"{text[:LONGEST_QUOTE]}…"


def _type_of(value: Any) -> str:
    """The type of a value in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
