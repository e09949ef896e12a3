"""`quire serve`: an engine, the application around it, and an HTTP server, from start to a graceful end."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import ConfigError, EngineDeadError
from engine.supervisor import SupervisedEngine
from server.app import create_app
from server.banner import banner, base_url
from server.config import ServerConfig
from server.dependencies import Services
from server.keys import KeyRing
from server.observability.logs import configure_logging
from server.text import load_model_text
from server.tls import tls_options

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(server: ServerConfig, engine: EngineConfig) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        server: settings of the HTTP side.
        engine: settings of the engine; `model` is a directory.

    Returns:
        Exit code: 0 after a graceful end. While the model loads SIGTERM is one too, since it is how an init system ends
        what it started; SIGINT then gives 130, since a person wanted a server and has none.

    Raises:
        ConfigError: the port is taken, the address is not ours, or a file of keys or certificates cannot be used.
        QuireError: the model cannot be loaded.
        EngineDeadError: the engine has failed too often.
    """
    configure_logging(server.log_level)
    # what is wrong with these files is said before a model is loaded
    tls_options(server)
    KeyRing(server)
    with bind(server.host, server.port) as listener:
        try:
            asyncio.run(_serve(server, engine, listener))
        except asyncio.CancelledError as end:  # while loading; carries the signal
            return 0 if end.args == (signal.SIGTERM,) else 128 + signal.SIGINT
    return 0


def bind(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a taken one is known at once and stays ours.

    Raises:
        ConfigError: the port is taken or the address is not ours.
    """
    listener: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # without this another process could take the same port until the server listens
        listener.listen(2048)
    except OSError as problem:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"Cannot listen on {host} port {port}: {problem.strerror or problem}. "
            "End what uses it, or choose another with --port."
        ) from problem
    return listener


class _Server(uvicorn.Server):
    """uvicorn, with two changes to how it ends.

    Signals are handled by us: it would end the process before the engine is closed. And answers that are not done
    after `patience` seconds lose their engine, so that each ends as clients understand, with an error.
    """

    def __init__(self, config: uvicorn.Config, engine: EngineClient, patience: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._patience = patience

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no further requests, and wait for those there are."""
        closing = asyncio.create_task(self._close_engine())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _close_engine(self) -> None:
        await asyncio.sleep(self._patience)
        await self._engine.close()


def _last_resort(config: ServerConfig) -> int:
    """Seconds after which connections are cut; by then answers have ended by themselves."""
    return math.ceil(config.shutdown_timeout) + 5


async def _serve(config: ServerConfig, engine_config: EngineConfig, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loading = asyncio.current_task()
    if loading is not None:
        for each in SIGNALS:
            loop.add_signal_handler(each, loading.cancel, each)
    text = load_model_text(Path(engine_config.model))
    engine = await SupervisedEngine.start(engine_config)
    try:
        app = create_app(engine, text, config)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=_last_resort(config),
                **tls_options(config),
            ),
            engine,
            config.shutdown_timeout,
        )
        for each in SIGNALS:
            loop.add_signal_handler(each, server.handle_exit, each, None)
        services: Services = app.state.services
        url = base_url(config.host, listener.getsockname()[1], tls=bool(config.ssl_certfile))
        print(banner(engine.model, services.names, config, url, chat=text.template is not None), flush=True)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        giving_up = asyncio.create_task(engine.given_up())
        await asyncio.wait({serving, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        if giving_up.done():
            raise EngineDeadError(giving_up.result())
        giving_up.cancel()
    finally:
        await engine.close()
