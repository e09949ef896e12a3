"""The answer of POST /v1/requests/{id}/cancel, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class CancelledRequest(BaseModel):
    """What was ended."""

    id: str
    object: Literal["request.cancelled"]
    cancelled: int = Field(description="how many requests of this id there were")
