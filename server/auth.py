"""Who may use the server. With a key: whoever sends it. Without: whoever is on this machine, and no web page."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.config import ServerConfig
from server.errors import ErrorReply

PUBLIC_PATHS = frozenset({"/health"})
"""Paths that need no key."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What this machine calls itself; no web page is served under these names."""


class AccessMiddleware:
    """Lets a request through if it brings the key, or, where there is none, if its Host header is a known one.

    A page on the web can make a browser send requests to a name that it has pointed at 127.0.0.1 (DNS rebinding);
    the Host header then still carries that name.

    Args:
        app: what is protected.
        config: holds the key and the known hosts.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._key = config.api_key.encode()
        own = f"[{config.host}]" if ":" in config.host else config.host
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK_NAMES, own, *config.allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> ErrorReply | None:
        headers = Headers(scope=scope)
        if not self._key:
            return _check_host(headers.get("host", ""), self._hosts)
        if scope["path"] in PUBLIC_PATHS:
            return None
        return _check_key(headers, self._key)


def _check_host(host: str, known: Collection[str]) -> ErrorReply | None:
    name = host.lower()
    if name not in known:
        name = name.rpartition(":")[0]  # without the port
    if name in known:
        return None
    return ErrorReply(
        403,
        f"This server has no API key and therefore answers only to known hosts, not to '{host[:100]}'. Start it with "
        "--api-key, or add the host with --allowed-hosts.",
        "permission_error",
        code="unknown_host",
    )


def _check_key(headers: Headers, key: bytes) -> ErrorReply | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    offered = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if hmac.compare_digest(offered.encode("latin-1"), key):
        return None
    problem = "Incorrect API key provided." if offered else "You did not provide an API key."
    return ErrorReply(
        401,
        f"{problem} Send it in the header 'Authorization: Bearer KEY'.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )
