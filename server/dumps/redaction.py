"""The body of a request without the words of whoever sent it, in the same shape."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, get_args

from server.dumps.filler import Filler
from server.schemas.base import WireModel
from server.schemas.chat import Role
from server.schemas.refused import REFUSED

CHOSEN_FROM_A_LIST = frozenset(
    {
        *("role", "type", "tool_choice", "mode", "service_tier", "reasoning_effort", "verbosity", "format", "detail"),
        *("modalities", "effort", "reasoning_format", "encoding_format", "pooling"),
        *("truncation", "side", "truncation_side"),
    }
)
"""Fields whose values are words of the API where they are among `WORDS`."""

WORDS = frozenset(
    {
        *get_args(Role),
        *("text", "refusal", "image_url", "input_audio", "file", "function", "custom", "tool_call", "tool_result"),
        "allowed_tools",
        *("json_object", "json_schema", "grammar", "regex", "structural_tag"),
        *("object", "array", "string", "number", "integer", "boolean", "null"),
        *("none", "auto", "required", "any", "default", "low", "medium", "high", "minimal", "flex", "priority"),
        *("xhigh", "max", "enabled", "disabled", "deepseek", "parsed", "raw", "hidden"),
        *("float", "base64", "mean", "last", "left", "right"),
    }
)

SCHEMA_WORDS = frozenset(
    {
        *("properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$defs", "$ref", "title"),
        *("description", "additionalProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "default", "schema", "strict"),
        *("name", "function", "parameters", "url", "arguments"),
    }
)
"""Keys of tool definitions and JSON schemas that are the same in everybody's."""

TOKEN_IDS = ("prompt", "tokens", "input")
"""Fields whose numbers are token ids, and so say what somebody wrote."""

NAMES = frozenset({"required", "name", "id", "tool_call_id", "request_id"})
"""Fields whose values name something, and are not any text: of a property, a tool, a call, a request."""


class Redactor:
    """Replaces what a client may have written into a body, names of keys included.

    Kept are the shape, what the API itself gives names to, numbers and truth values of known fields, and the model's
    own names. Everything else is replaced by a `Filler`.

    Args:
        filler: writes what is shown instead.
        names: names the model answers to.
    """

    def __init__(self, filler: Filler, names: Collection[str]) -> None:
        self._filler = filler
        self._names = frozenset(names)
        self._known = _field_names() | SCHEMA_WORDS

    def redacted(self, value: Any, key: str = "") -> Any:
        """`value`, which stands under `key`, without a client's words."""
        match value:
            case dict():
                biases = key == "logit_bias"
                return {
                    self._key(name, key): self.redacted(each, key if biases else name) for name, each in value.items()
                }
            case list() if value and key in TOKEN_IDS and all(type(each) is int for each in value):
                return self._filler.ids([each % 2**63 for each in value])
            case list():
                return [self.redacted(each, key) for each in value]
            case str():
                return self._text(value, key)
            case bool() | None:
                return value
            case _:
                return value if key in self._known and key not in TOKEN_IDS else 0

    def param(self, path: str | None) -> str | None:
        """The place an error names, if it has known names only."""
        steps = [step.rstrip("]") for part in (path or "").split(".") for step in part.split("[")]
        return path if all(step in self._known or step.isdigit() for step in steps) else None

    def _arguments(self, text: str) -> str:
        """The arguments of a call: JSON in a text, of which nothing is the API's."""
        try:
            return json.dumps(self._unknown(json.loads(text)))
        except ValueError:
            return self._filler.text(text)

    def _unknown(self, value: Any) -> Any:
        match value:
            case dict():
                return {self._filler.name(name): self._unknown(each) for name, each in value.items()}
            case list():
                return [self._unknown(each) for each in value]
            case str():
                return self._filler.text(value)
            case bool() | None:
                return value
            case _:
                return 0

    def _key(self, name: str, parent: str) -> str:
        token_id = parent == "logit_bias" and name.isascii() and name.isdigit()
        in_schema = parent != "properties" and name in self._known
        return name if token_id or in_schema else self._filler.name(name)

    def _text(self, value: str, key: str) -> str:
        if (key in CHOSEN_FROM_A_LIST and value in WORDS) or (key == "model" and value in self._names):
            return value
        if key == "arguments":
            return self._arguments(value)
        return self._filler.name(value) if key in NAMES else self._filler.text(value)


def _field_names() -> frozenset[str]:
    """Names of all fields of all bodies, those that are refused too."""
    names: set[str] = set(REFUSED)
    waiting: list[type[WireModel]] = [WireModel]
    while waiting:
        model = waiting.pop()
        names.update(field.alias or name for name, field in model.model_fields.items())
        waiting.extend(model.__subclasses__())
    return frozenset(names)
