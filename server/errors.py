"""From errors to HTTP: the only place that knows the status and the OpenAI body of each class.

The form of a body, and what clients do with it, is that of the OpenAI API: `{"error": {"message", "type", "param",
"code"}}` with `code` a string or null.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import (
    ContextLengthError,
    DeadlineExceededError,
    EngineDeadError,
    EngineRestartingError,
    InvalidRequestError,
    LoadConflictError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    OverloadedError,
    QuireError,
    RequestCancelledError,
    RequestFailedError,
    RequestNotFoundError,
    ShuttingDownError,
)
from engine.logs import FIELDS
from server.field_errors import explain

logger = logging.getLogger(__name__)

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
RATE_LIMIT = "rate_limit_exceeded"
ENGINE_RETRY_SECONDS = 5
"""What a client is told to wait while the engine is down."""

_HTTP_CODES: Mapping[int, str] = {
    401: "invalid_api_key",
    404: "unknown_url",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What the client is told: status, the `error` object, and headers."""

    status: int
    message: str
    type: str = INVALID_REQUEST
    param: str | None = None
    code: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON body, in one line."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code, **self.extra}
        # ASCII escapes, since messages may quote whatever a client sent, lone surrogates included
        return json.dumps({"error": error}).encode()

    def response(self) -> Response:
        """The whole HTTP answer."""
        return Response(self.body(), self.status, dict(self.headers), "application/json")


def reply_to(error: Exception) -> ErrorReply:
    """What to tell the client about `error`. Errors nobody foresaw say nothing of their insides."""
    match error:
        case ContextLengthError():
            numbers = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.max_model_len}
            return ErrorReply(400, error.message, param=error.param, code=error.code, extra=numbers)
        case InvalidRequestError():
            return ErrorReply(400, error.message, param=error.param, code=error.code)
        case ModelNotFoundError():
            return ErrorReply(404, str(error), param="model", code="model_not_found")
        case RequestNotFoundError():
            return ErrorReply(404, str(error), param="request_id", code="request_not_found")
        case RequestCancelledError():
            return ErrorReply(400, str(error), code="request_cancelled")
        case OverloadedError():
            retry = {"Retry-After": str(math.ceil(error.retry_after))}
            return ErrorReply(429, str(error), RATE_LIMIT, code="queue_full", headers=retry)
        case LoadConflictError():
            return ErrorReply(409, str(error), code="load_conflict")
        case ModelLoadError():
            retry = {"Retry-After": str(math.ceil(error.retry_after))}
            return ErrorReply(503, str(error), SERVER_ERROR, code="model_load_failed", headers=retry)
        case ModelUnloadedError():
            retry = {"Retry-After": "1"}
            return ErrorReply(503, str(error), SERVER_ERROR, code="model_unloaded", headers=retry)
        case EngineRestartingError():
            retry = {"Retry-After": str(math.ceil(error.retry_after))}
            return ErrorReply(503, str(error), SERVER_ERROR, code="engine_restarting", headers=retry)
        case ShuttingDownError():
            retry = {"Retry-After": str(ENGINE_RETRY_SECONDS), "Connection": "close"}
            return ErrorReply(503, str(error), SERVER_ERROR, code="shutting_down", headers=retry)
        case EngineDeadError():
            retry = {"Retry-After": str(ENGINE_RETRY_SECONDS)}
            return ErrorReply(503, str(error), SERVER_ERROR, code="engine_dead", headers=retry)
        case DeadlineExceededError():  # 408 would be repeated by the OpenAI SDK, only to run out of time again
            return ErrorReply(408, str(error), SERVER_ERROR, code="timeout", headers=_NO_RETRY)
        case RequestFailedError():
            return ErrorReply(500, str(error), SERVER_ERROR, code="request_failed")
        case _:  # another QuireError too: its message is written for who runs the server, and may name paths
            message = "An unexpected error occurred. The server's log has the details under this request's id."
            return ErrorReply(500, message, SERVER_ERROR, code="internal_error", headers=_NO_RETRY)


# a failure of our own would fail again, and the OpenAI SDK repeats every 500 twice unless told otherwise
_NO_RETRY = {"x-should-retry": "false"}


def report(error: Exception, request_id: str) -> ErrorReply:
    """`reply_to`, and a line in the log for what is not the client's doing; with a traceback if nobody foresaw it."""
    reply = reply_to(error)
    fields = {FIELDS: {"request_id": request_id}}
    if not isinstance(error, QuireError):
        logger.error("request failed unexpectedly", exc_info=error, extra=fields)
    elif reply.status >= 500 or isinstance(error, DeadlineExceededError):
        logger.warning("request failed: %s", error, extra=fields)
    return reply


class Boundary:
    """The HTTP boundary: as a context manager it stops every error and keeps what the client is to be told.

    Args:
        request_id: for the log.

    Attributes:
        reply: set if an error was stopped.
    """

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self.reply: ErrorReply | None = None

    def __enter__(self) -> Boundary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # a cancelled task and a closed generator must end
            return False
        self.reply = report(error, self._request_id)
        return True


def unknown_url(method: str, path: str) -> ErrorReply:
    """What to tell a client that asks for something there is not."""
    below = "" if path.startswith("/v1/") else " The OpenAI API is below /v1, which a client's base URL must end with."
    return ErrorReply(404, f"Unknown URL: {method} {path}.{below} See /docs for what there is.", code=_HTTP_CODES[404])


def malformed_request(message: str) -> ErrorReply:
    """What to tell a client whose bytes are no HTTP request."""
    return ErrorReply(400, message)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error in OpenAI's form, FastAPI's and Starlette's own included."""
    app.add_exception_handler(QuireError, _on_quire_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_quire_error(request: Request, error: Exception) -> Response:
    return report(error, request.state.request_id).response()


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    problem = cast("RequestValidationError", error)
    return reply_to(explain(problem.errors(), problem.body)).response()


async def _on_http_error(request: Request, error: Exception) -> Response:
    problem = cast("HTTPException", error)
    message = str(problem.detail)
    if problem.status_code == 404:
        return unknown_url(request.method, request.url.path).response()
    if problem.status_code == 405:
        message = f"{request.method} is not allowed for {request.url.path}."
    code = _HTTP_CODES.get(problem.status_code)
    return ErrorReply(problem.status_code, message, code=code, headers=problem.headers or {}).response()
