"""Fields that allow a prompt to be cut."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from server.schemas.base import WHOLE, PositiveInt, WireModel

Side = Literal["left", "right"]


class Truncation(WireModel):
    """How to cut a prompt that is too long."""

    side: Side = Field(description="where tokens are left out: left is the beginning, right the end")
    max_tokens: PositiveInt | None = Field(
        None, description="most tokens of a prompt; default is what leaves room for the answer"
    )


class TruncationFields(WireModel):
    """Fields that allow a prompt to be cut, which never happens without them."""

    truncation: Truncation | Literal["disabled"] | None = Field(
        None,
        description="cut prompts that are too long; the answer's header x-quire-truncated-tokens tells by how much",
    )
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1), WHOLE] | None = Field(
        None, description="as in vLLM: most tokens of a prompt; -1 for what leaves room for the answer"
    )
    truncation_side: Side | None = Field(None, description="with truncate_prompt_tokens; default left")
