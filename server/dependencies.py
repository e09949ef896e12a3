"""What the routes work with, made once per server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from server.cancellation import RunningRequests
from server.config import ServerConfig
from server.grammar_checks import GrammarChecks
from server.models.registry import Models
from server.models.served import ServedModel
from server.schemas.fields import IgnoredFields
from server.scopes import AccessScope


@dataclass(frozen=True, slots=True)
class Services:
    """The models, and what the server adds.

    Attributes:
        running: what can be cancelled.
        started: when the server was, by `time.monotonic`.
    """

    models: Models
    config: ServerConfig
    ignored_fields: IgnoredFields = field(default_factory=IgnoredFields)
    running: RunningRequests = field(default_factory=RunningRequests)
    started: float = field(default_factory=time.monotonic)

    @property
    def grammars(self) -> GrammarChecks:
        """What tries the grammars of requests."""
        return self.models.grammars

    async def model(self, asked: str | None) -> ServedModel:
        """The model of a request, which can be checked with it; it need not be loaded.

        Raises:
            ModelNotFoundError: no model of the name `asked` is served here.
            ModelLoadError: its files cannot be used.
        """
        model = self.models.find(asked)
        await model.prepare()
        return model


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def caller_of(request: Request) -> str | None:
    """A name for whoever makes this request, the same for every request with that key; None without a key of ours.

    On a server without keys everybody is the same caller.
    """
    caller: str | None = request.state.caller
    return caller


def is_admin(request: Request) -> bool:
    """Whether this request was made with an admin's key."""
    return request.state.key_scope is AccessScope.ADMIN


ServicesDep = Annotated[Services, Depends(_services)]
