"""Reading request bodies strictly.

FastAPI reads and validates bodies; this narrows its JSON reader (size, encoding, depth).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects in a body."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonRequest(Request):
    """A request whose body is JSON: UTF-8, of limited size and depth, without lone surrogates."""

    async def body(self) -> bytes:
        """The raw body.

        Raises:
            HTTPException: 413 if it is too large, 415 if it is compressed or does not call itself JSON.
        """
        if not hasattr(self, "_body"):
            self._check_content()
            self._body = await self._read(self.app.state.services.config.max_body_bytes)
        return self._body

    async def json(self) -> Any:
        """The parsed body. NaN and infinities pass here, so that validation can name the field that holds them.

        Raises:
            HTTPException: 400, saying what is wrong.
        """
        return parse_json(await self.body())

    def _check_content(self) -> None:
        # a page elsewhere can post any other type to a local server without the browser asking first
        coding = self.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            raise HTTPException(415, "Send the body without 'Content-Encoding': compressed ones are not read.")
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise HTTPException(415, "Send the body as JSON, with the header 'Content-Type: application/json'.")

    async def _read(self, limit: int) -> bytes:
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and len(declared) < 20 and int(declared) > limit:
            raise HTTPException(413, f"The body has {declared} bytes; this server takes at most {limit}.")
        body = bytearray()
        async for piece in self.stream():
            body += piece
            if len(body) > limit:
                raise HTTPException(413, f"The body has more than the {limit} bytes this server takes.")
        return bytes(body)


class JsonRoute(APIRoute):
    """A route that reads its body through `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, given a `JsonRequest`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def parse_json(body: bytes) -> Any:
    """Parse UTF-8 JSON, with or without a byte order mark. Of equal names in an object the last one counts.

    Raises:
        HTTPException: 400, saying what is wrong and where.
    """
    try:
        value = json.loads(body.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as problem:
        raise _malformed(f"byte {problem.start} is not UTF-8") from None
    except json.JSONDecodeError as problem:
        what = problem.msg.removesuffix(" at")
        raise _malformed(f"{what} at line {problem.lineno}, column {problem.colno}") from None
    except RecursionError:
        raise _malformed(f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:  # an integer of thousands of digits
        raise _malformed("a number has too many digits") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _malformed(f"nested more than {MAX_DEPTH} levels deep")
    if _SURROGATE.search(body) and _has_lone_surrogate(value):
        raise _malformed("a string holds half of a surrogate pair, which is not a character")
    return value


def _malformed(reason: str) -> HTTPException:
    return HTTPException(400, f"The body is not valid JSON: {reason}.")


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for each in level for child in _children(each) if isinstance(child, list | dict)]
        if not level:
            return False
    return True


def _children(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
