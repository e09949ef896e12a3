"""Fields that say what an answer must look like: OpenAI's, vLLM's and llama.cpp's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from server.schemas.base import WireModel

JsonSchema = dict[str, Any] | bool


class JsonSchemaFormat(WireModel):
    """The schema of `response_format`."""

    name: str = Field(min_length=1, description="has no effect")
    description: str | None = Field(None, description="accepted; has no effect")
    schema_: JsonSchema = Field(alias="schema", description="JSON Schema that the answer will be valid against")
    strict: bool | None = Field(None, description="accepted; a schema is always enforced")


class ResponseFormat(WireModel):
    """What OpenAI calls structured outputs."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = Field(None, description="with type json_schema")
    schema_: JsonSchema | None = Field(None, alias="schema", description="with type json_object, as in llama.cpp")


class StructuredOutputs(WireModel):
    """vLLM's field; exactly one of these."""

    json_: JsonSchema | str | None = Field(None, alias="json", description="JSON Schema, also as a text")
    json_object: bool | None = Field(None, description="any JSON object")


class StructuredFields(WireModel):
    """Fields that constrain an answer; at most one of them."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(None, description="as in vLLM")
    guided_json: JsonSchema | str | None = Field(None, description="older name of structured_outputs.json")
