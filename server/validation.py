"""Reading request bodies strictly, and explaining what is wrong with them.

FastAPI reads and validates bodies; this narrows its JSON reader (size, encoding, depth) and turns pydantic's findings
into one message that names the field as the caller spelled it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import InvalidRequestError

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects in a body."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonRequest(Request):
    """A request whose body is JSON: UTF-8, of limited size and depth, without lone surrogates."""

    async def body(self) -> bytes:
        """The raw body.

        Raises:
            HTTPException: 413 if it is too large, 415 if it does not call itself JSON.
        """
        if not hasattr(self, "_body"):
            self._check_content_type()
            self._body = await self._read(self.app.state.services.config.max_body_bytes)
        return self._body

    async def json(self) -> Any:
        """The parsed body. NaN and infinities pass here, so that validation can name the field that holds them.

        Raises:
            HTTPException: 400, saying what is wrong.
        """
        return parse_json(await self.body())

    def _check_content_type(self) -> None:
        # a page elsewhere can post any other type to a local server without the browser asking first
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
    """Parse UTF-8 JSON.

    Raises:
        HTTPException: 400, saying what is wrong and where.
    """
    try:
        value = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise _malformed(f"byte {problem.start} is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise _malformed(f"{problem.msg} at line {problem.lineno}, column {problem.colno}") from None
    except RecursionError:
        raise _malformed(f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:  # an integer of thousands of digits
        raise _malformed("a number has too many digits") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _malformed(f"nested more than {MAX_DEPTH} levels deep")
    if _SURROGATE.search(body) and _has_lone_surrogate(value):
        raise _malformed("a string holds half of a surrogate pair, which is not a character")
    return value


def explain(findings: Sequence[Any], body: Any) -> InvalidRequestError:
    """The one error that says best what pydantic found.

    Where a field may have several forms pydantic reports a finding for each; the one that got deepest into the body
    is the form the caller meant.

    Args:
        findings: pydantic's `errors()`, locations starting with `body`, `path` or `query`.
        body: the parsed body they are about.
    """
    paths = [_path(finding["loc"], body, missing=finding["type"] == "missing") for finding in findings]
    deepest = max(len(path) for path in paths)
    best = [(path, finding) for path, finding in zip(paths, findings, strict=True) if len(path) == deepest]
    path = best[0][0]
    if not path:
        return InvalidRequestError("The body must be a JSON object.", code="invalid_type")
    param = spell(path)
    kinds = {finding["type"] for _, finding in best}
    if kinds == {"missing"}:
        return InvalidRequestError(f"Missing required parameter: '{param}'.", param=param, code="missing_parameter")
    here = [finding for each, finding in best if each == path]
    wishes = list(dict.fromkeys(_wish(finding) for finding in here))
    code = "invalid_type" if any(finding["type"].endswith("_type") for finding in here) else "invalid_value"
    return InvalidRequestError(f"Invalid value for '{param}': {', or '.join(wishes)}.", param=param, code=code)


def spell(path: Sequence[str | int]) -> str:
    """A place in a body as messages and headers name it: `messages[0].role`."""
    spelled = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return spelled.removeprefix(".")


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


def _path(location: Sequence[str | int], body: Any, *, missing: bool) -> tuple[str | int, ...]:
    """The part of pydantic's location that leads through the body; the rest names members of unions."""
    if location[0] != "body":
        return tuple(location[1:])
    path: list[str | int] = []
    node = body
    for step in location[1:]:
        inside = isinstance(node, dict) and step in node
        if inside or (isinstance(node, list) and isinstance(step, int) and step < len(node)):
            node = node[step]
            path.append(step)
    if missing and isinstance(node, dict):
        path.append(location[-1])
    return tuple(path)


def _wish(finding: Any) -> str:
    message: str = finding["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    message = message.replace("a valid dictionary or object to extract fields from", "an object")
    message = message.replace("a valid dictionary", "an object")
    return (message[:1].lower() + message[1:]).rstrip(".")
