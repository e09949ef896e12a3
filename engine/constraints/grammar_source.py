"""From every language a grammar may be written in to the one llguidance compiles: its dialect of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from engine.constraints.gbnf import gbnf_to_lark
from engine.constraints.grammar_tree import tree_to_lark
from engine.constraints.json_formats import with_exact_formats
from engine.constraints.structural_tag import structural_tag_to_lark
from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec

MAX_DEPTH = 64
"""Deepest nesting of arrays and objects in a JSON Schema."""

_OPTIONS = '%llguidance {"no_forcing": true}'
"""Leaves the cut of forced text into tokens to the model, so that a mask has every token the grammar allows."""

_WHITESPACE = r" |\r?\n[ \t]{0,64}"
"""Between two parts of a JSON text: nothing, a space, or a line end with indentation. Without a bound small models fill
whole answers with blanks."""

_JSON_OPTIONS = {
    "whitespace_pattern": _WHITESPACE,
    "item_separator": ",",
    "key_separator": ":",
    "lenient": False,  # what cannot be honoured is an error, not a warning
    "coerce_one_of": False,
}

_ATTRIBUTES = re.compile(r"\[[^\]]*?\b(max_tokens|stop|temperature)\s*=")
"""Attributes of Lark rules that ask the engine for more than a mask."""


def lark_source(spec: GrammarSpec) -> str:
    """The grammar in llguidance's Lark.

    Raises:
        InvalidRequestError: it is not written in its language, or uses what cannot be honoured; the message names it.
    """
    return _lark_source(spec, _json_rule)


def json_schemas(spec: GrammarSpec) -> list[Any]:
    """All JSON Schemas in a grammar that `lark_source` takes."""
    schemas: list[Any] = []

    def collected(schema: Any) -> str:
        schemas.append(schema)
        return _json_rule(schema)

    _lark_source(spec, collected)
    return schemas


def _lark_source(spec: GrammarSpec, json_rule: Callable[[Any], str]) -> str:
    match spec.kind:
        case GrammarKind.JSON_OBJECT:
            body = f"start: {json_rule({'type': 'object'})}"
        case GrammarKind.JSON_SCHEMA:
            body = f"start: {json_rule(_parsed(spec.source, 'The JSON schema'))}"
        case GrammarKind.REGEX:
            body = f"start: {_regex_rule(spec.source)}"
        case GrammarKind.CHOICE:
            body = _choice(_parsed(spec.source, "The list of choices"))
        case GrammarKind.LARK:
            body = _lark(spec.source)
        case GrammarKind.GBNF:
            body = gbnf_to_lark(spec.source)
        case GrammarKind.STRUCTURAL_TAG:
            body = structural_tag_to_lark(_parsed(spec.source, "The structural tag"), json_rule)
        case GrammarKind.TREE:
            body = tree_to_lark(_parsed(spec.source, "The grammar tree"), json_rule, _regex_rule)
    return f"{body}\n{_OPTIONS}\n"


def _json_rule(schema: Any) -> str:
    """What stands for a JSON text that is valid against the schema, on the right side of a rule."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise _refusal("A JSON schema must be an object, or true.")
    if "x-guidance" in schema:
        raise _refusal("'x-guidance' in a JSON schema is not supported. Leave it out.")
    if _deeper_than(schema, MAX_DEPTH):
        raise _refusal(f"The JSON schema is nested more than {MAX_DEPTH} levels deep.")
    try:
        return f"%json {json.dumps({**with_exact_formats(schema), 'x-guidance': _JSON_OPTIONS}, allow_nan=False)}"
    except ValueError:
        raise _refusal("A JSON schema cannot hold NaN, infinity, or numbers as large.") from None


def _choice(choices: Any) -> str:
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise _refusal("Choices must be a list of one or more texts that are not empty.")
    texts = " | ".join(json.dumps(each, ensure_ascii=False) for each in dict.fromkeys(choices))
    return f"start: CHOICE\nCHOICE: {texts}"  # a terminal, since thousands of them would make a rule too complex


def _lark(source: str) -> str:
    found = _ATTRIBUTES.search(source)
    if found:
        raise _refusal(f"The attribute '{found[1]}' of a Lark rule is not supported. Leave it out.")
    if "%llguidance" in source:
        raise _refusal("'%llguidance' in a grammar is not supported. Leave it out.")
    return source


def _regex_rule(pattern: str) -> str:
    """A regular expression on the right side of a rule, where it stands between slashes."""
    if not pattern:
        raise _refusal("The regular expression is empty, which only an empty answer would match.")
    escaped = re.sub(r"(\\.)|/|\n", _escaped, pattern, flags=re.DOTALL)
    return f"/{escaped}/"


def _escaped(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    return r"\/" if found[0] == "/" else r"\n"


def _parsed(source: str, what: str) -> Any:
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as problem:
        raise _refusal(f"{what} is not valid JSON: {problem}.") from None


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, list | dict)
        ]
        if not level:
            return False
    return True


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="grammar")
