"""The form of errors, for the OpenAPI document; the bodies themselves are written by `server/errors.py`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ErrorObject(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None
    n_prompt_tokens: int = Field(default=0, description="with context_length_exceeded")
    n_ctx: int = Field(default=0, description="with context_length_exceeded: tokens the model takes")
    progress: dict[str, Any] | None = Field(default=None, description="with model_loading: how far that is")


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorObject


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be served as it is"},
    "5XX": {"model": ErrorBody, "description": "The server cannot serve requests just now, or failed"},
}
