"""What all request bodies have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from engine.types import MAX_CHOICES, MAX_LOGPROBS, MAX_TIMEOUT


def _whole(value: Any) -> Any:
    """5.0 is an integer in JSON Schema, and what clients write whose language has one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Beside a field of integers."""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), WHOLE]
PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE]
CountFromZero = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]


FieldPath = tuple[str | int, ...]
"""Names of fields and positions in lists that lead to a place in a body."""


class WireModel(BaseModel):
    """A JSON object from a client: no conversions between types, no NaN, unknown fields kept aside."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())

    def unknown_fields(self, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
        """Fields that are not part of the schema, at any depth, and their values; null is as good as absent.

        Args:
            path: where this object is.
        """
        for name, value in (self.model_extra or {}).items():
            if value is not None:
                yield (*path, name), value
        for name in type(self).model_fields:
            yield from _unknown_fields(getattr(self, name), (*path, name))


def _unknown_fields(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(value, WireModel):
        yield from value.unknown_fields(path)
    elif isinstance(value, list) and value and isinstance(value[0], WireModel):  # all of a kind, and may be millions
        for index, each in enumerate(value):
            yield from _unknown_fields(each, (*path, index))


def example(fields: dict[str, Any]) -> ConfigDict:
    """Settings of a model of which the OpenAPI document shows this."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class ModelChoice(WireModel):
    """A body that says which model it is for."""

    model: str | None = Field(None, description="a name from /v1/models; absent means the model served here")


class StreamOptions(WireModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="end the stream with a chunk that counts tokens")
    include_obfuscation: bool | None = Field(None, description="accepted; this server adds no padding")


class RequestFields(ModelChoice):
    """Fields of every request that the engine works on. Null means absent everywhere."""

    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT)] | None = Field(
        None, description="seconds from its arrival after which the request fails; default is the server's"
    )
    priority: Int32 | None = Field(None, description="the lower, the sooner its turn; default 0")

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = Field(
        None, description="a name to cancel it by, besides the answer's id and x-request-id"
    )

    user: str | None = Field(None, description="accepted; has no effect")


class GenerationFields(RequestFields):
    """Fields that chat and legacy completions share. Null means absent everywhere."""

    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE] | None = Field(
        None, description="list each prompt token's log-probability and this many alternatives; not with stream"
    )
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = Field(None, description="choices per prompt")
    stream: bool | None = Field(None, description="answer with server-sent events")
    stream_options: StreamOptions | None = Field(None, description="needs stream")
    stop: str | list[str] | None = Field(None, description="strings that end the answer; not returned")
    seed: Seed | None = Field(None, description="makes the answer reproducible; the same for every prompt")
    temperature: float | None = Field(None, description="0 is greedy; default is the model's own, else 1")
    top_p: float | None = Field(None, description="default is the model's own, else 1")
    presence_penalty: float | None = Field(
        None, description="-2 to 2; lowers the chance of tokens that are in the answer already"
    )
    frequency_penalty: float | None = Field(None, description="-2 to 2; the same, as often as they are")
    logit_bias: dict[str, float] | None = Field(None, description="token id (as a string) to -100…100")

    top_k: Int32 | None = Field(None, description="0 and -1 are off; default is the model's own, else off")
    min_p: float | None = Field(None, description="default is the model's own, else 0")
    repetition_penalty: float | None = Field(None, description="default is the model's own, else 1")
    min_tokens: CountFromZero | None = Field(None, description="the answer does not end before; default 0")
    stop_token_ids: list[TokenId] | None = Field(None, description="tokens that end the answer; not returned")
    ignore_eos: bool | None = Field(None, description="go on behind the tokens with which the model ends its answers")
    include_stop_str_in_output: bool | None = Field(None, description="return the stop string too")
    skip_special_tokens: bool | None = Field(None, description="leave them out of the text; default true")

    metadata: dict[str, Any] | None = Field(None, description="accepted; has no effect")
    service_tier: str | None = Field(None, description="accepted; has no effect")
