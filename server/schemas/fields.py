"""Fields outside the schema: those that would change the answer are refused, the rest is named in a header."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from engine.errors import InvalidRequestError
from server.schemas.base import FieldPath, WireModel
from server.validation import spell

logger = logging.getLogger(__name__)

IGNORED_HEADER = "x-quire-ignored-fields"
MAX_NAMED = 20
MAX_NAME = 100
MAX_REMEMBERED = 1000

_POSITION = re.compile(r"\[\d+\]")


def _one_of(*neutral: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or any(value == each and type(value) is type(each) for each in neutral)


_IN_CHATS = ", except by /v1/chat/completions"

_OFF = _one_of()
"""Only null changes nothing."""

REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "tools": _one_of([]),
    "tool_choice": _one_of("none", "auto"),
    "functions": _one_of([]),
    "function_call": _one_of("none", "auto"),
    "modalities": _one_of(["text"]),
    "audio": _OFF,
    "moderation": _OFF,
    "web_search_options": _OFF,
    "reasoning_effort": _one_of("none"),
    "thinking_token_budget": _one_of(-1, 0),
    "reasoning_budget_tokens": _one_of(-1, 0),
    "thinking_budget_tokens": _one_of(-1, 0),
    "thinking_budget": _one_of(-1, 0),
    "verbosity": _one_of("medium"),
    "echo": _one_of(False),
    "chat_template": _OFF,
    "documents": _one_of([]),
    "bad_words": _one_of([]),
    "allowed_token_ids": _OFF,
    "banned_tokens": _one_of([]),
    "banned_strings": _one_of([]),
    "guided_whitespace_pattern": _OFF,
    "whitespace_pattern": _OFF,
    "disable_any_whitespace": _one_of(False),
    "disable_additional_properties": _one_of(False),
    "json_schema": _OFF,
    "regex": _OFF,
    "regex_pattern": _OFF,
    "ebnf": _OFF,
    "grammar_string": _OFF,
}
"""Known fields, of OpenAI and of other servers, that this server does not implement and that change the answer, each
with the test for values that ask for nothing special. They are refused wherever in a body they stand."""


def refuse_unsupported(body: WireModel) -> None:
    """Refuse what would silently change the meaning of the request.

    Raises:
        InvalidRequestError: naming the field, code `unsupported_parameter`.
    """
    for path, value in body.unknown_fields():
        neutral = _refused(path)
        if neutral is not None and not neutral(value):
            raise InvalidRequestError(
                f"'{spell(path)}' is not supported by this server{_hint(path[-1])}. Leave it out.",
                param=spell(path),
                code="unsupported_parameter",
            )


def _refused(path: FieldPath) -> Callable[[Any], bool] | None:
    return REFUSED.get(str(path[-1]))


def _hint(name: str | int) -> str:
    hints = {
        "tools": _IN_CHATS,
        "tool_choice": f" beyond 'none'{_IN_CHATS}",
        "reasoning_effort": _IN_CHATS,
        "thinking_token_budget": _IN_CHATS,
        "reasoning_budget_tokens": _IN_CHATS,
        "thinking_budget_tokens": _IN_CHATS,
        "thinking_budget": _IN_CHATS,
        "modalities": " beyond ['text']",
        "echo": " beyond false, except by /v1/completions",
        "functions": "; 'tools' has taken its place",
        "function_call": "; 'tool_choice' and 'tool_calls' have taken its place",
    }
    return hints.get(str(name), "")


class IgnoredFields:
    """Tells clients, and once per name the log, which of their fields were not understood."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def headers(self, body: WireModel) -> dict[str, str]:
        """The header that names the unknown fields of a body; empty if there are none."""
        unknown = (path for path, _ in body.unknown_fields() if _refused(path) is None)
        names = [quote(spell(path)[:MAX_NAME], safe="[]") for path in unknown]
        if not names:
            return {}
        anywhere = dict.fromkeys(_POSITION.sub("[]", name) for name in names)
        fresh = [name for name in anywhere if name not in self._logged]
        # a client that makes names up must not fill the memory or the log
        if fresh and len(self._logged) < MAX_REMEMBERED:
            self._logged.update(fresh)
            logger.warning("ignoring unknown request fields: %s", ", ".join(fresh[:MAX_NAMED]))
        more = f", and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return {IGNORED_HEADER: ", ".join(names[:MAX_NAMED]) + more}
