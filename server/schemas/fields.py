"""Fields outside the schema: those that would change the answer are refused, the rest is named in a header."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from engine.errors import InvalidRequestError
from server.schemas.base import GenerationFields

logger = logging.getLogger(__name__)

IGNORED_HEADER = "x-quire-ignored-fields"
MAX_NAMED = 20
MAX_REMEMBERED = 1000


def _one_of(*neutral: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or any(value == each and type(value) is type(each) for each in neutral)


_OFF = _one_of()
"""Only null changes nothing."""

REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "tools": _one_of([]),
    "tool_choice": _one_of("none", "auto"),
    "functions": _one_of([]),
    "function_call": _one_of("none", "auto"),
    "response_format": _one_of({"type": "text"}),
    "modalities": _one_of(["text"]),
    "audio": _OFF,
    "moderation": _OFF,
    "web_search_options": _OFF,
    "reasoning_effort": _OFF,
    "verbosity": _one_of("medium"),
    "suffix": _one_of(""),
    "echo": _one_of(False),
    "chat_template": _OFF,
    "documents": _one_of([]),
    "prompt_logprobs": _OFF,
    "bad_words": _one_of([]),
    "allowed_token_ids": _OFF,
    "banned_tokens": _one_of([]),
    "banned_strings": _one_of([]),
    "structured_outputs": _OFF,
    "guided_json": _OFF,
    "guided_regex": _OFF,
    "guided_choice": _OFF,
    "guided_grammar": _OFF,
    "json_schema": _OFF,
    "regex": _OFF,
    "regex_pattern": _OFF,
    "ebnf": _OFF,
    "grammar": _OFF,
    "grammar_string": _OFF,
}
"""Known fields, of OpenAI and of other servers, that this server does not implement and that change the answer, each
with the test for values that ask for nothing special."""


def refuse_unsupported(body: GenerationFields) -> None:
    """Refuse what would silently change the meaning of the request.

    Raises:
        InvalidRequestError: naming the field, code `unsupported_parameter`.
    """
    for name, value in body.unknown_fields.items():
        neutral = REFUSED.get(name)
        if neutral is not None and not neutral(value):
            raise InvalidRequestError(
                f"'{name}' is not supported by this server{_hint(name)}. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    best_of = body.unknown_fields.get("best_of")
    if best_of is not None and (type(best_of) is not int or best_of != (body.n or 1)):
        raise InvalidRequestError(
            "'best_of' is not supported by this server unless it equals 'n'. Leave it out.",
            param="best_of",
            code="unsupported_parameter",
        )
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("'stream_options' needs 'stream' to be true.", param="stream_options")


def _hint(name: str) -> str:
    values = {"tool_choice": "'none'", "response_format": "{'type': 'text'}", "modalities": "['text']"}
    return f" beyond {values[name]}" if name in values else ""


class IgnoredFields:
    """Tells clients, and once per name the log, which of their fields were not understood."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def headers(self, unknown: Mapping[str, Any]) -> dict[str, str]:
        """The header that names unknown fields; empty if there are none."""
        names = [quote(name[:64], safe="") for name in unknown if name not in REFUSED and name != "best_of"]
        if not names:
            return {}
        fresh = [name for name in names if name not in self._logged]
        # a client that makes names up must not fill the memory or the log
        if fresh and len(self._logged) < MAX_REMEMBERED:
            self._logged.update(fresh)
            logger.warning("ignoring unknown request fields: %s", ", ".join(fresh[:MAX_NAMED]))
        more = f", and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return {IGNORED_HEADER: ", ".join(names[:MAX_NAMED]) + more}
