"""Who may use the server. With keys: whoever sends one of the right scope. Without: this machine, and no web page."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.config import ServerConfig
from server.errors import ErrorReply, unknown_url
from server.keys import KeyRing
from server.scopes import AccessScope, RouteTable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What this machine calls itself; no web page is served under these names."""

PERMISSION_ERROR = "permission_error"


class AccessMiddleware:
    """Lets a request through to a route of the table, if its caller may call it.

    What is in no table is refused, so that a route nobody thought about is not open by accident.

    Args:
        app: what is protected.
        config: settings of the HTTP side.
        keys: the server's keys.
        routes: what may be called, and by whom.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, keys: KeyRing, routes: RouteTable) -> None:
        self._app = app
        self._keys = keys
        self._routes = routes
        own = f"[{config.host}]" if ":" in config.host else config.host
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK_NAMES, own, *config.allowed_hosts))
        self._origins = frozenset(config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> ErrorReply | None:
        headers = Headers(scope=scope)
        found = self._routes.find(scope)
        needed = AccessScope.USER if found is None else found[1]
        state = scope.setdefault("state", {})
        offered = _offered_key(headers)
        state["caller"], state["key_scope"] = self._keys.caller(offered), self._keys.scope_of(offered)
        if found is not None:
            state["route"] = (found[0].path, needed)  # for the log
        if self._keys.empty:
            refusal = _check_host(headers.get("host", ""), self._hosts) or self._check_origin(headers)
        else:
            refusal = self._check_key(headers, needed)
        if refusal is None and found is None:
            return unknown_url(scope["method"], scope["path"])
        return refusal

    def _check_origin(self, headers: Headers) -> ErrorReply | None:
        """A browser says which page makes a request; ours (the documentation) and those allowed may."""
        origin = headers.get("origin")
        own = headers.get("host", "")
        if origin is None or origin in self._origins or origin in (f"http://{own}", f"https://{own}"):
            return None
        return ErrorReply(
            403,
            f"This server has no API key and therefore answers no web pages, such as those of '{origin[:100]}'. Start "
            "it with --api-key, or allow the page's origin with --cors-origins.",
            PERMISSION_ERROR,
            code="unknown_origin",
        )

    def _check_key(self, headers: Headers, needed: AccessScope) -> ErrorReply | None:
        if needed is AccessScope.PUBLIC:
            return None
        offered = _offered_key(headers)
        scope = self._keys.scope_of(offered)
        if scope is None:
            return _no_key(offered)
        if self._keys.grants(scope, needed):
            return None
        return ErrorReply(
            403,
            f"This needs a key of scope '{needed}', and the one sent is of scope '{scope}'. Such keys are set with "
            f"{_FLAGS[needed]} or in the key file.",
            PERMISSION_ERROR,
            code="insufficient_scope",
        )


_FLAGS = {AccessScope.USER: "--api-key", AccessScope.ADMIN: "--admin-key", AccessScope.METRICS: "--metrics-key"}


def _check_host(host: str, known: Collection[str]) -> ErrorReply | None:
    """Refuse names that are not ours.

    A page on the web can make a browser send requests to a name that it has pointed at 127.0.0.1 (DNS rebinding);
    the Host header then still carries that name.
    """
    name = host.lower()
    if name not in known:
        name = name.rpartition(":")[0]  # without the port
    if name in known:
        return None
    return ErrorReply(
        403,
        f"This server has no API key and therefore answers only to known hosts, not to '{host[:100]}'. Start it with "
        "--api-key, or add the host with --allowed-hosts.",
        PERMISSION_ERROR,
        code="unknown_host",
    )


def _offered_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _no_key(offered: str) -> ErrorReply:
    problem = "Incorrect API key provided." if offered else "You did not provide an API key."
    return ErrorReply(
        401,
        f"{problem} Send it in the header 'Authorization: Bearer KEY'.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )
