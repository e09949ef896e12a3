"""The HTTP application: routes, error handlers and middleware put together."""

from __future__ import annotations

from fastapi import FastAPI

from engine.client import EngineClient
from server.auth import AccessMiddleware
from server.config import ServerConfig
from server.dependencies import make_services
from server.errors import install_error_handlers
from server.middleware import BoundaryMiddleware
from server.routes import chat, completions, models, operations, tokenize
from server.schemas.errors import ERROR_RESPONSES
from server.text import ModelText
from server.version import installed_version
from server.wire_json import JsonResponse


def create_app(engine: EngineClient, text: ModelText, config: ServerConfig) -> FastAPI:
    """Build the application around a running engine, which the caller started and will close.

    Args:
        engine: what generates.
        text: tokenizer, chat template and defaults of the engine's model.
        config: settings of the HTTP side.
    """
    app = FastAPI(
        title="Quire",
        version=installed_version(),
        description="Large language models in the EXL2 format behind the OpenAI API.",
        root_path=config.root_path,
        default_response_class=JsonResponse,
    )
    app.state.services = make_services(engine, text, config)
    for module in (chat, completions, models, tokenize, operations):
        app.include_router(module.router, responses=ERROR_RESPONSES)
    install_error_handlers(app)
    app.add_middleware(AccessMiddleware, config=config)
    app.add_middleware(BoundaryMiddleware)  # the one added last is the outermost
    return app
