"""The bodies of POST /admin/models/…"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from server.schemas.base import WireModel, example


class LoadRequest(WireModel):
    """Which model to load, and how."""

    model_config = example({"model": "big", "settings": {"max_model_len": 8192}})

    model: str = Field(description="a declared name, or a path below --model-dir")
    settings: dict[str, Any] | None = Field(
        None, description="settings of [engine] that win over all others until the model is loaded in this way again"
    )
    stream: bool | None = Field(None, description="answer with server-sent events that tell how far loading is")


class UnloadRequest(WireModel):
    """How to unload the model."""

    force: bool | None = Field(None, description="end running answers with an error instead of waiting for them")


class CancelRequest(WireModel):
    """Nothing yet: at most one model is being loaded."""
