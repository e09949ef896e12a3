"""What the routes work with, made once per server."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from engine.client import EngineClient
from engine.errors import ModelNotFoundError
from engine.types import ModelInfo
from server.config import ServerConfig
from server.observability.metrics import Metrics
from server.observability.recent_prompts import RecentPrompts
from server.queue_gate import QueueGate
from server.schemas.fields import IgnoredFields
from server.text import ModelText
from server.version import installed_version


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the text side of its model, and what the server adds.

    Attributes:
        names: names the model answers to, the first one shown in answers.
        fingerprint: changes when what answers changes: model, format, kernels or version.
        created: when the model was brought up, in Unix seconds.
        started: the same by `time.monotonic`.
    """

    engine: EngineClient
    text: ModelText
    config: ServerConfig
    names: tuple[str, ...]
    metrics: Metrics
    queue: QueueGate
    fingerprint: str
    recent_prompts: RecentPrompts = field(default_factory=RecentPrompts)
    ignored_fields: IgnoredFields = field(default_factory=IgnoredFields)
    created: int = field(default_factory=lambda: int(time.time()))
    started: float = field(default_factory=time.monotonic)

    def model_name(self, asked: str | None) -> str:
        """The name to answer under.

        Raises:
            ModelNotFoundError: no model of the name `asked` is served here.
        """
        if asked is None:
            return self.names[0]
        if asked not in self.names:
            raise ModelNotFoundError(asked, self.names)
        return asked


def make_services(engine: EngineClient, text: ModelText, config: ServerConfig) -> Services:
    """Put together what the routes work with."""
    names = tuple(dict.fromkeys(config.served_model_name)) or (engine.model.name,)
    metrics, queue = Metrics(engine, names[0]), QueueGate(engine.model)
    return Services(engine, text, config, names, metrics, queue, _fingerprint(engine.model))


def _fingerprint(model: ModelInfo) -> str:
    weights = (model.name, model.weight_format, model.bits_per_weight)
    facts = (*weights, model.kernels, model.kv_cache_dtype, installed_version())
    return "fp_" + hashlib.sha256(repr(facts).encode()).hexdigest()[:10]


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def caller_of(request: Request) -> str | None:
    """A name for whoever makes this request, the same for every request with that key; None without a key of ours.

    On a server without keys everybody is the same caller.
    """
    caller: str | None = request.state.caller
    return caller


ServicesDep = Annotated[Services, Depends(_services)]
