"""What a route asks of its caller, said at the route itself, and the table the guard reads it from."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_DECLARATION = "access_scope"


class AccessScope(enum.StrEnum):
    """Who may call a route; all but the first are also the scopes of keys."""

    PUBLIC = "public"  # anybody, without a key
    USER = "user"  # who may use the model
    ADMIN = "admin"  # who runs the server
    METRICS = "metrics"  # what watches the server


def access(scope: AccessScope) -> Callable[[Endpoint], Endpoint]:
    """Declare who may call an endpoint; stands between the route and its function."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARATION, scope)
        return endpoint

    return declare


class RouteTable:
    """Every route that may be called at all, with its scope.

    Args:
        routes: with endpoints that declare a scope.

    Raises:
        TypeError: a route declares none, or is of a kind (mounted applications, web sockets) that cannot.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self.routes: tuple[tuple[Route, AccessScope], ...] = tuple(_declared(route) for route in routes)

    def find(self, scope: Scope) -> tuple[Route, AccessScope] | None:
        """The route a request is for, also if its method is not the route's; None if there is none."""
        partial: tuple[Route, AccessScope] | None = None
        for entry in self.routes:
            match, _ = entry[0].matches(scope)
            if match is Match.FULL:
                return entry
            if match is Match.PARTIAL and partial is None:
                partial = entry
        return partial


def _declared(route: BaseRoute) -> tuple[Route, AccessScope]:
    scope = getattr(route.endpoint, _DECLARATION, None) if isinstance(route, Route) else None
    if not isinstance(route, Route) or not isinstance(scope, AccessScope):
        raise TypeError(f"{route} does not say who may call it. Write @access(AccessScope.…) above its function.")
    return route, scope
