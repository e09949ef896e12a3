"""Writes the arguments of a call as JSON while a model writes them as plain texts, one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from server.parsing.argument_types import STRING, Types, argument_types, read_json, type_of
from server.parsing.python_literal import literal_to_json

MOST_LOOKED_AT = 500
"""Characters of a text that tell what it can be."""

_NUMBER_BEGINS = re.compile(r"[-+.0-9][-+.0-9eE_]{0,400}\s*")
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
_TYPE_OF_WORDS = {"true": "boolean", "false": "boolean", "null": "null"}


class ArgumentsWriter:
    """From texts to the object of the arguments. What it returns, put together, is JSON as soon as `close` was called.

    A name that has been there already is left out with its value: what was sent cannot be taken back.

    Args:
        parameters: JSON Schema of the arguments; None leaves their types open.
    """

    def __init__(self, parameters: Mapping[str, Any] | None) -> None:
        self._parameters = parameters
        self._names: set[str] = set()
        self._before = ""  # what goes out with the next of the value
        self._value: ValueWriter | None = None

    @property
    def takes_text(self) -> bool:
        """Whether the argument may be a string."""
        return self._value is None or "string" in self._value.types

    def begin(self, name: str) -> None:
        """The text of argument `name` follows."""
        if name in self._names:
            self._value = None
            return
        self._before = f"{', ' if self._names else '{'}{json.dumps(name, ensure_ascii=False)}: "
        self._names.add(name)
        self._value = ValueWriter(argument_types(self._parameters, name))

    def begin_string(self) -> None:
        """The text of the argument stands in quotes, so it is a string if it may be one."""
        if self._value is not None and "string" in self._value.types:
            self._value = ValueWriter(STRING)

    def feed(self, text: str) -> str:
        """What is certain of the JSON now that the text of the argument goes on with this."""
        return self._with_name(self._value.feed(text)) if self._value else ""

    def end(self) -> str:
        """The rest of the argument."""
        value, self._value = self._value, None
        return self._with_name(value.end()) if value else ""

    def literal(self, source: str) -> str:
        """A whole argument that is written in Python's notation, in place of `feed` and `end`."""
        value, self._value = self._value, None
        return self._with_name(value.literal(source)) if value else ""

    def close(self) -> str:
        """The end of the object."""
        return "}" if self._names else "{}"

    def _with_name(self, json_text: str) -> str:
        if not json_text:
            return ""
        before, self._before = self._before, ""
        return before + json_text


class ValueWriter:
    """The JSON of one value. A string goes out as it comes, as soon as its text can be nothing else.

    Args:
        types: it may have.
    """

    def __init__(self, types: Types) -> None:
        self.types = types
        self._held: str | None = ""  # the text so far; None once it is a string under way

    def feed(self, text: str) -> str:
        """What is certain now that the text goes on with this."""
        if self._held is None:
            return _escaped(text)
        self._held += text
        if not self._held or "string" not in self.types or _may_be_another(self._held, self.types):
            return ""
        began, self._held = '"' + _escaped(self._held), None
        return began

    def end(self) -> str:
        """The rest, now that the text is whole."""
        if self._held is None:
            return '"'
        return text_to_json(self._held, self.types)

    def literal(self, source: str) -> str:
        """The value of a whole text in Python's notation; a string if it has none, or is a number where none may be."""
        written = literal_to_json(source)
        if written is None or (self.types == STRING and written[0] in "-0123456789"):
            return json.dumps(source, ensure_ascii=False)
        return written


def text_to_json(text: str, types: Types) -> str:
    """A value of one of the types, written as JSON.

    The text itself is taken for JSON, then for Python's notation, then for a string: what a model wrote is not lost
    where it does not fit its schema.
    """
    if types == STRING:
        return json.dumps(text, ensure_ascii=False)
    written = _other_than_string(text.strip(), types)
    if written is not None and ("string" not in types or type_of(read_json(written)) in types):
        return written
    return json.dumps(text, ensure_ascii=False)


def _other_than_string(text: str, types: Types) -> str | None:
    try:
        value = read_json(text)
    except ValueError:
        word = _PYTHON_WORDS.get(text if "string" in types else text.capitalize())
        if word is not None:
            return word if _TYPE_OF_WORDS[word] in types else None
        return literal_to_json(text) if text[:1] in ("[", "{", "(") else None
    return text if not isinstance(value, str) or "string" not in types else None


def _may_be_another(text: str, types: Types) -> bool:
    """Whether a text may go on so that it is a value of another type than a string."""
    text = text[:MOST_LOOKED_AT].lstrip()
    match text[:1]:
        case "":
            return True
        case "{":
            return "object" in types
        case "[" | "(":
            return "array" in types
        case first if first in "-+.0123456789":
            return bool(types & {"number", "integer"}) and _NUMBER_BEGINS.fullmatch(text) is not None
    words = {word: word for word in _TYPE_OF_WORDS} | _PYTHON_WORDS
    begun = text.rstrip()
    return any(word.startswith(begun) and _TYPE_OF_WORDS[json_word] in types for word, json_word in words.items())


def _escaped(text: str) -> str:
    """Within the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
