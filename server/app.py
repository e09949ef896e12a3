"""The HTTP application: routes, error handlers and middleware put together."""

from __future__ import annotations

from functools import cache

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from engine.client import EngineClient
from engine.config import EngineConfig
from server.auth import AccessMiddleware
from server.config import ServerConfig
from server.dependencies import Services
from server.dumps.recorder import DumpMiddleware, DumpRecorder
from server.errors import install_error_handlers
from server.keys import KeyRing
from server.middleware import REQUEST_ID, BoundaryMiddleware
from server.models.registry import Models, around
from server.observability.prefix_report import ANSWER as PREFIX_HEADER
from server.observability.request_log import RequestLogMiddleware
from server.openapi import describe
from server.routes import admin, chat, completions, embeddings, models, operations, render, requests, tokenize
from server.schemas.errors import ERROR_RESPONSES
from server.schemas.fields import IGNORED_HEADER
from server.scopes import AccessScope, RouteTable, access
from server.text import ModelText
from server.truncation import HEADER as TRUNCATION_HEADER
from server.version import installed_version
from server.wire_json import JsonResponse

ROUTERS = tuple(
    module.router for module in (chat, completions, embeddings, render, requests, models, tokenize, operations, admin)
)


def create_app(
    engine: EngineClient, text: ModelText, config: ServerConfig, engine_config: EngineConfig | None = None
) -> FastAPI:
    """Build the application around a running engine, which the caller started and will close.

    Args:
        engine: what generates.
        text: tokenizer, chat template and defaults of the engine's model.
        config: settings of the HTTP side.
        engine_config: settings of the engine, which only dumps of requests tell of.

    Raises:
        ConfigError, TypeError: as `create_app_for`.
    """
    return create_app_for(around(engine, text, config, engine_config), config)


def create_app_for(models: Models, config: ServerConfig) -> FastAPI:
    """Build the application around models, which the caller will close.

    Args:
        models: what generates, once it is loaded.
        config: settings of the HTTP side.

    Raises:
        ConfigError: the key file or the folder for dumps cannot be used.
        TypeError: a route does not say who may call it.
    """
    app = FastAPI(
        title="Quire",
        version=installed_version(),
        description="Large language models in the EXL2 format behind the OpenAI API.",
        root_path=config.root_path,
        default_response_class=JsonResponse,
        redirect_slashes=False,
    )
    app.state.services = Services(models, config)
    described = [route for route in app.routes if isinstance(route, Route)]  # /docs, /openapi.json: FastAPI's own
    for route in described:
        access(AccessScope.USER)(route.endpoint)
    for router in ROUTERS:
        app.include_router(router, responses=ERROR_RESPONSES)
    install_error_handlers(app)
    table = RouteTable([*described, *(route for router in ROUTERS for route in router.routes)])
    document = cache(lambda: describe(app, table.routes))
    app.openapi = document  # type: ignore[method-assign]  # FastAPI's way to have another one
    if config.dump_requests:
        app.add_middleware(DumpMiddleware, recorder=DumpRecorder(app.state.services))
    app.add_middleware(AccessMiddleware, config=config, keys=KeyRing(config), routes=table)
    app.add_middleware(BoundaryMiddleware)  # each one added surrounds those before
    app.add_middleware(RequestLogMiddleware)
    if config.cors_origins:
        _allow_web_pages(app, config)
    return app


def _allow_web_pages(app: FastAPI, config: ServerConfig) -> None:
    """Answer what browsers ask before they let a page of one of the origins call the API."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[REQUEST_ID, IGNORED_HEADER, PREFIX_HEADER, TRUNCATION_HEADER, "retry-after"],
    )
