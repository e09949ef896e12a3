"""From the fields that constrain an answer to the one grammar they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec
from server.field_errors import missing
from server.schemas.refused import REFUSED
from server.schemas.structured import ResponseFormat, StructuredFields, StructuredOutputs

_FORMS = ", ".join(field.alias or name for name, field in StructuredOutputs.model_fields.items())
_GBNF_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.MULTILINE)
"""Tells GBNF from Lark, where a rule is `name: …`."""


class WantedGrammar(NamedTuple):
    """A grammar and the field that asks for it."""

    spec: GrammarSpec
    param: str


def wanted_grammar(body: StructuredFields) -> WantedGrammar | None:
    """What the answer must look like; None if it is free.

    Raises:
        InvalidRequestError: several fields ask for something, or one of them is incomplete.
    """
    wanted = list(_wanted(body))
    if len(wanted) > 1:
        names = " and ".join(f"'{each.param}'" for each in wanted)
        raise InvalidRequestError(f"Only one of {names} can be honoured. Leave the others out.", param=wanted[1].param)
    return wanted[0] if wanted else None


def naming_field(error: InvalidRequestError, param: str) -> InvalidRequestError:
    """An error about a grammar, with the field that asks for it."""
    return InvalidRequestError(error.message, param=param if error.param == "grammar" else error.param, code=error.code)


def _wanted(body: StructuredFields) -> Iterator[WantedGrammar]:
    if body.response_format is not None:
        yield from _of_response_format(body.response_format)
    if body.structured_outputs is not None:
        yield from _of_structured_outputs(body.structured_outputs)
    if body.guided_json is not None:
        yield _schema(body.guided_json, "guided_json")
    if body.guided_regex is not None:
        yield _grammar(GrammarKind.REGEX, body.guided_regex, "guided_regex")
    if body.guided_choice is not None:
        yield _choice(body.guided_choice, "guided_choice")
    if body.guided_grammar is not None:
        yield _lark_or_gbnf(body.guided_grammar, "guided_grammar")
    if body.grammar is not None:
        yield _lark_or_gbnf(body.grammar, "grammar")


def _of_response_format(wanted: ResponseFormat) -> Iterator[WantedGrammar]:
    if wanted.type != "json_schema" and wanted.json_schema is not None:
        raise InvalidRequestError(
            "'response_format.json_schema' needs 'response_format.type' to be 'json_schema'.",
            param="response_format.type",
        )
    if wanted.type != "json_object" and wanted.schema_ is not None:
        raise InvalidRequestError(
            "'response_format.schema' needs 'response_format.type' to be 'json_object'; with 'json_schema' the schema "
            "stands at 'response_format.json_schema.schema'.",
            param="response_format.schema",
        )
    if wanted.type != "structural_tag" and (wanted.structures is not None or wanted.triggers is not None):
        raise InvalidRequestError(
            "'structures' and 'triggers' need 'response_format.type' to be 'structural_tag'.",
            param="response_format.type",
        )
    match wanted.type:
        case "json_schema":
            if wanted.json_schema is None:
                raise missing("response_format.json_schema")
            yield _schema(wanted.json_schema.schema_, "response_format.json_schema.schema")
        case "json_object" if wanted.schema_ is not None:
            yield _schema(wanted.schema_, "response_format.schema")
        case "json_object":
            yield WantedGrammar(GrammarSpec(GrammarKind.JSON_OBJECT), "response_format")
        case "structural_tag":
            extra = wanted.model_extra or {}  # a form that is not known is refused for what it has
            tag = {"structures": wanted.structures, "triggers": wanted.triggers, **extra}
            yield _structural_tag(tag, "response_format")


def _of_structured_outputs(wanted: StructuredOutputs) -> Iterator[WantedGrammar]:
    for name, value in (wanted.model_extra or {}).items():
        if value is not None and name not in REFUSED:  # a misspelt name must not leave the answer free
            param = f"structured_outputs.{name[:64]}"
            raise InvalidRequestError(f"'{param}' is none of {_FORMS}.", param=param, code="unsupported_parameter")
    if wanted.json_ is not None:
        yield _schema(wanted.json_, "structured_outputs.json")
    if wanted.regex is not None:
        yield _grammar(GrammarKind.REGEX, wanted.regex, "structured_outputs.regex")
    if wanted.choice is not None:
        yield _choice(wanted.choice, "structured_outputs.choice")
    if wanted.grammar is not None:
        yield _lark_or_gbnf(wanted.grammar, "structured_outputs.grammar")
    if wanted.json_object:
        yield WantedGrammar(GrammarSpec(GrammarKind.JSON_OBJECT), "structured_outputs.json_object")
    if wanted.structural_tag is not None:
        yield _structural_tag(wanted.structural_tag, "structured_outputs.structural_tag")


def _schema(schema: Any, param: str) -> WantedGrammar:
    """A JSON Schema, or the text of one. The order of its keys stays: properties come in it."""
    return _grammar(GrammarKind.JSON_SCHEMA, _json(schema, param), param)


def _structural_tag(tag: Any, param: str) -> WantedGrammar:
    return _grammar(GrammarKind.STRUCTURAL_TAG, _json(tag, param), param)


def _choice(choices: list[str], param: str) -> WantedGrammar:
    return _grammar(GrammarKind.CHOICE, json.dumps(choices, ensure_ascii=False), param)


def _lark_or_gbnf(source: str, param: str) -> WantedGrammar:
    return _grammar(GrammarKind.GBNF if _GBNF_RULE.search(source) else GrammarKind.LARK, source, param)


def _json(value: Any, param: str) -> str:
    """The text of a value; a text is one already."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InvalidRequestError("A JSON schema cannot hold NaN or infinity.", param=param) from None


def _grammar(kind: GrammarKind, source: str, param: str) -> WantedGrammar:
    try:
        return WantedGrammar(GrammarSpec(kind, source), param)
    except InvalidRequestError as error:
        raise naming_field(error, param) from None
