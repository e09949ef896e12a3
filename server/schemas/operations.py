"""Answers about models and the server itself, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from server.schemas.answers import Documented


class ModelCard(Documented):
    """A model."""

    id: str
    object: Literal["model"]
    created: int = Field(description="when the server came to know it, in Unix seconds")
    owned_by: Literal["quire"]
    loaded: bool
    max_model_len: int | None = Field(description="tokens of prompt and answer; null until it has been loaded once")
    meta: dict[str, Any] | None = Field(description="what it is and what its chat template does; likewise")


class ModelList(Documented):
    """All models."""

    object: Literal["list"]
    data: list[ModelCard]


class LoadingModel(Documented):
    """How far loading is."""

    model: str
    stage: str
    done: int | None
    total: int | None


class ModelState(ModelCard):
    """A model, and what only who runs the server may know."""

    names: list[str]
    state: Literal["loaded", "loading", "unloaded", "failed"]
    available: bool
    path: str
    running: int
    waiting: int
    loads: int
    failed_loads: int
    last_error: str | None


class ModelStates(Documented):
    """All models, and the load that goes on."""

    object: Literal["list"]
    loading: LoadingModel | None
    data: list[ModelState]


class CancelledLoad(Documented):
    """The load that was given up."""

    cancelled: str | None = Field(description="null if nothing was being loaded")


class Alive(Documented):
    """The server answers."""

    status: Literal["ok"]


class Health(Documented):
    """Whether requests are taken; without a key of a server that has keys the status alone."""

    status: str = Field(description="ok, or why not")
    model: str | None = None
    loading: LoadingModel | None = None
    uptime_seconds: float = 0
    last_step_seconds: float | None = None
    running: int = 0
    waiting: int = 0
    restarts: int = 0
    last_failure: str | None = None
