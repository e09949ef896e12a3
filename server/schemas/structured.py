"""Fields that say what an answer must look like: OpenAI's, vLLM's and llama.cpp's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from server.schemas.base import WireModel

Choices = Annotated[list[str], Field(min_length=1)]
JsonSchema = dict[str, Any] | bool


class JsonSchemaFormat(WireModel):
    """The schema of `response_format`."""

    name: str = Field(min_length=1, description="has no effect")
    description: str | None = Field(None, description="accepted; has no effect")
    schema_: JsonSchema = Field(alias="schema", description="JSON Schema that the answer will be valid against")
    strict: bool | None = Field(None, description="accepted; a schema is always enforced")


class ResponseFormat(WireModel):
    """What OpenAI calls structured outputs."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"] = Field(
        description="text leaves the answer free"
    )
    json_schema: JsonSchemaFormat | None = Field(None, description="with type json_schema")
    schema_: JsonSchema | None = Field(None, alias="schema", description="with type json_object, as in llama.cpp")
    structures: list[Any] | None = Field(None, description="with type structural_tag: objects of begin, schema, end")
    triggers: list[str] | None = Field(None, description="with type structural_tag: texts that open a structure")


class StructuredOutputs(WireModel):
    """vLLM's field; exactly one of these."""

    json_: JsonSchema | str | None = Field(None, alias="json", description="JSON Schema, also as a text")
    regex: str | None = Field(None, description="regular expression that the whole answer matches")
    choice: Choices | None = Field(None, description="texts, one of which is the answer")
    grammar: str | None = Field(None, description="Lark as llguidance reads it, or GBNF")
    json_object: bool | None = Field(None, description="any JSON object")
    structural_tag: dict[str, Any] | str | None = Field(None, description="structures and triggers, also as a text")
    disable_fallback: bool | None = Field(None, description="accepted; there is nothing to fall back to")


class StructuredFields(WireModel):
    """Fields that constrain an answer; at most one of them."""

    response_format: ResponseFormat | None = Field(None, description="what the answer must look like, as at OpenAI")
    structured_outputs: StructuredOutputs | None = Field(None, description="as in vLLM")
    guided_json: JsonSchema | str | None = Field(None, description="older name of structured_outputs.json")
    guided_regex: str | None = Field(None, description="older name of structured_outputs.regex")
    guided_choice: Choices | None = Field(None, description="older name of structured_outputs.choice")
    guided_grammar: str | None = Field(None, description="older name of structured_outputs.grammar")
    grammar: str | None = Field(None, description="as in llama.cpp: GBNF; or Lark")
