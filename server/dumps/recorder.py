"""Writes requests to files as they end, beside and never in the way of answering them."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.stats import EngineStats
from server.config import ServerConfig
from server.dependencies import Services
from server.dumps.describe import about_server, describe, moment
from server.dumps.exchange import Exchange
from server.dumps.filler import Filler
from server.dumps.redaction import Redactor
from server.dumps.store import open_store
from server.generation import Generation
from server.models.served import ServedModel
from server.observability.request_log import logged_generation
from server.respond import CLIENT_CLOSED_REQUEST

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Most dumps that wait to be written; where the disk is slower than that, the next ones are left out."""


class DumpRecorder:
    """Chooses which requests to dump, and has a thread of its own write them.

    Args:
        services: of the server; its settings say what is dumped, and where to.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._config = config = services.config
        self._store = open_store(config)
        self._fillers: dict[str, Filler] = {}  # by model
        self._waiting = threading.Semaphore(MAX_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dumps")

    def begin(self, scope: Scope) -> Exchange:
        """Follow a request."""
        route, _ = scope["state"]["route"]  # its own path, in which no client wrote anything
        return Exchange(scope["method"], route, self._stats(), self._config.dump_content)

    def end(self, exchange: Exchange, request_id: str, generation: Generation | None) -> None:
        """Have it written, if it is one of those that are wanted."""
        exchange.end()
        if not wanted(exchange, generation, self._config):
            return
        model = self._services.models.default if generation is None else generation.model
        if model is None or not model.has_text:  # without a tokenizer nothing could be said in other words
            return
        if not self._waiting.acquire(blocking=False):
            logger.warning("A request is not dumped, for %d others wait to be.", MAX_WAITING)
            return
        try:
            names = [name for each in self._services.models for name in each.names]
            writing = self._thread.submit(self._write, exchange, request_id, generation, model, names)
        except RuntimeError:  # the program ends
            self._waiting.release()
        else:
            writing.add_done_callback(self._written)

    def _write(
        self,
        exchange: Exchange,
        request_id: str,
        generation: Generation | None,
        model: ServedModel,
        names: Collection[str],
    ) -> None:
        about = about_server(model.info, self._config, model.known.config)
        redactor = None if self._config.dump_content else Redactor(self._filler(model), names)
        dump = describe(exchange, request_id, generation, redactor, about)
        self._store.write(moment(exchange.received), request_id, dump)

    def _filler(self, model: ServedModel) -> Filler:
        """The model's, as long as it keeps its tokenizer, which each load by the admin API replaces."""
        tokenizer, filler = model.text.tokenizer, self._fillers.get(model.name)
        if filler is None or filler.tokenizer is not tokenizer:
            filler = self._fillers[model.name] = Filler(tokenizer)
        return filler

    def _stats(self) -> EngineStats:
        loaded = self._services.models.loaded
        return EngineStats() if loaded is None or loaded.engine is None else loaded.engine.stats

    def _written(self, writing: Future[Any]) -> None:
        self._waiting.release()
        error = writing.exception()
        if isinstance(error, OSError):
            logger.warning("A request could not be dumped: %s.", error.strerror or error)
        elif error is not None:
            logger.error("A request could not be dumped.", exc_info=error)


def wanted(exchange: Exchange, generation: Generation | None, config: ServerConfig) -> bool:
    """Whether the settings ask for this one."""
    match config.dump_which:
        case "errors":
            broken_off = generation is not None and not all(generation.finish_reasons)
            return exchange.status >= 400 or broken_off
        case "slow":
            return exchange.seconds >= config.dump_slow_seconds
        case "all":
            return True


class DumpMiddleware:
    """Follows every POST that its caller may make.

    Args:
        app: answers.
        recorder: takes what was seen.
    """

    def __init__(self, app: ASGIApp, recorder: DumpRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        exchange = self._recorder.begin(scope)

        async def watched_receive() -> Message:
            message = await receive()
            exchange.on_receive(message)
            return message

        async def watched_send(message: Message) -> None:
            exchange.on_send(message)
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            if exchange.status == CLIENT_CLOSED_REQUEST and isinstance(sys.exception(), Exception):
                exchange.status = 500  # what the boundary around this makes of it
            self._recorder.end(exchange, scope["state"]["request_id"], logged_generation(scope))
