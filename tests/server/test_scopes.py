from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from server.scopes import AccessScope, RouteTable, access


@access(AccessScope.USER)
async def read(request: Request) -> Response:
    return PlainTextResponse("read")


@access(AccessScope.ADMIN)
async def write(request: Request) -> Response:
    return PlainTextResponse("write")


async def forgotten(request: Request) -> Response:
    return PlainTextResponse("forgotten")


def request(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}


TABLE = RouteTable([Route("/thing/{name:path}", read), Route("/thing/{name}", write, methods=["POST"])])


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/thing/a/b", AccessScope.USER),
        ("POST", "/thing/a", AccessScope.ADMIN),
        ("POST", "/thing/a/b", AccessScope.USER),  # no such method there: the scope of the path
        ("GET", "/other", None),
    ],
)
def test_finds_the_scope_of_what_is_asked(method: str, path: str, scope: AccessScope | None) -> None:
    found = TABLE.find(request(method, path))
    assert (found and found[1]) == scope


@pytest.mark.parametrize("make", [lambda: Route("/x", forgotten), lambda: Mount("/x", routes=[])])
def test_what_declares_no_scope_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="@access"):
        RouteTable([make()])
