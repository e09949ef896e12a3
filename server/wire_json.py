"""JSON as this server writes it."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

_LINE_ENDS = ("\x85", "\u2028", "\u2029")
"""Characters that JSON lets stand as they are, but at which many clients end a line of an event stream: Unicode calls
them line ends, and so does Python's `splitlines`."""


def to_json(value: Any) -> bytes:
    """One line of UTF-8, by anybody's idea of a line.

    Raises:
        ValueError: the value holds NaN, an infinity or half of a surrogate pair.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for each in _LINE_ENDS:
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text.encode()


class JsonResponse(JSONResponse):
    """An answer of one JSON value."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return to_json(content)
