"""The page docs/api-fields.md: every field of every request body, as the schemas have it.

Write it anew with `python -m server.field_reference > docs/api-fields.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from server.schemas.admin import LoadRequest, UnloadRequest
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.embeddings import EmbeddingRequest
from server.schemas.tokenize import DetokenizeRequest, TokenizeRequest

BODIES: Mapping[str, type[BaseModel]] = {
    "chat": ChatCompletionRequest,
    "completions": CompletionRequest,
    "embeddings": EmbeddingRequest,
    "tokenize": TokenizeRequest,
    "detokenize": DetokenizeRequest,
    "load": LoadRequest,
    "unload": UnloadRequest,
}
"""What the routes are called on the page."""

HEAD = """# Fields of request bodies

<!-- Written by `python -m server.field_reference > docs/api-fields.md`; do not edit. -->

[The HTTP API](api.md) says what they mean together. Null means absent. A path leads into objects and lists:
`messages[].role`.

Bodies: `chat` is `/v1/chat/completions`, `completions` is `/v1/completions` (both also with `/render` and
`/input_tokens`), `embeddings` is `/v1/embeddings`, `load` and `unload` are `/admin/models/load` and `/unload`, the
others are called like their routes.

| field | in | value | |
|---|---|---|---|
"""

_RANGE = {"minimum": "from {:g}", "exclusiveMinimum": "above {:g}", "maximum": "to {:g}", "minLength": "not empty"}
_UNBOUNDED = {-(2**63), -(2**31), 2**31 - 1, 2**63 - 1}
"""Limits of types of numbers, which are not worth saying."""


def field_reference() -> str:
    """The page, in Markdown."""
    bodies: dict[tuple[str, str, str], list[str]] = {}
    for body, model in BODIES.items():
        for row in _rows(model.model_json_schema(), ""):
            bodies.setdefault(row, []).append(body)
    rows = [
        f"| `{path}` | {', '.join(names)} | {value} | {text} |" for (path, value, text), names in sorted(bodies.items())
    ]
    return HEAD + "\n".join(rows) + "\n"


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Path, kind of value and description of all fields below a schema."""
    definitions = schema.get("$defs", {})
    waiting = [(schema, path)]
    while waiting:
        owner, path = waiting.pop()
        for name, field in owner.get("properties", {}).items():
            yield f"{path}{name}", _value(field, definitions), field.get("description", "")
            waiting += [(definitions[inner], f"{path}{name}{where}.") for inner, where in _objects(field)]


def _objects(field: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Names of the objects a field may hold, and `[]` for each list around them."""
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], where
    for each in field.get("anyOf", ()):
        yield from _objects(each, where)
    if isinstance(field.get("items"), dict):
        yield from _objects(field["items"], where + "[]")


def _value(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a field may be, in words."""
    if "$ref" in field:
        return _value(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        kinds = [_value(each, definitions) for each in field["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{each}`" for each in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of: {_value(field['items'], definitions)}" if field.get("items") else "list"
    limits = [
        text.format(field[name]) for name, text in _RANGE.items() if name in field and field[name] not in _UNBOUNDED
    ]
    return " ".join([field.get("type", "anything"), *limits])


if __name__ == "__main__":
    print(field_reference(), end="")
