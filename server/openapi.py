"""The OpenAPI document: FastAPI's, with what it cannot tell from the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from server.schemas.answers import STREAMED, Documented
from server.scopes import AccessScope

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
TAGS = {
    "generation": "Answers, and ending them",
    "embeddings": "Vectors of texts",
    "tokens": "Prompts and tokens, without generating",
    "models": "What is served",
    "operations": "For who and what watches the server",
    "admin": "For who runs the server",
}
_REQUEST_ID = {"description": "the client's own if it sent one", "schema": {"type": "string"}}


def event_stream_of(chunk: type[Documented]) -> dict[int | str, dict[str, Any]]:
    """What to declare of a route that also answers with an event stream of these chunks."""
    schema = {"$ref": f"#/components/schemas/{chunk.__name__}"}
    return {200: {"content": {"text/event-stream": {"schema": schema}}, "description": "The answer, whole or streamed"}}


def describe(app: FastAPI, routes: Iterable[tuple[Route, AccessScope]]) -> dict[str, Any]:
    """The document.

    Args:
        app: the application.
        routes: of it, each with who may call it.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=app.servers,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    components = document["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    document["security"] = [{name: []} for name in SECURITY_SCHEMES]
    for chunk in STREAMED:
        schema = chunk.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= {**schema.pop("$defs", {}), chunk.__name__: schema}
    public = {route.path for route, scope in routes if scope is AccessScope.PUBLIC}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in public:
                operation["security"] = []
            for response in operation["responses"].values():
                response.setdefault("headers", {})["x-request-id"] = _REQUEST_ID
    return document
