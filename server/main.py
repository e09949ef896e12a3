"""`quire serve`: an engine, the application around it, and an HTTP server, from start to a graceful end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from engine.errors import ConfigError, EngineDeadError
from engine.supervisor import SupervisedEngine
from server.app import create_app_for
from server.banner import banner, base_url
from server.config import ServerConfig
from server.connections import protocol_with_limits, raise_descriptor_limit
from server.dumps.store import open_store
from server.gateway import Gateway
from server.keys import KeyRing
from server.models.catalogue import Catalogue
from server.models.registry import Models
from server.observability.logs import LoopErrorLog, configure_logging
from server.tls import tls_options

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SEND_BUFFER_BYTES = 65536

LAST_WORDS_SECONDS = 5
"""What answers get, once their engine is gone, to say so before their connections are cut."""


def run(server: ServerConfig, catalogue: Catalogue) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        server: settings of the HTTP side.
        catalogue: the models, and which of them to load before anything is answered.

    Returns:
        Exit code: 0 after a graceful end. While the model loads SIGTERM is one too, since it is how an init system ends
        what it started; SIGINT then gives 130, since a person wanted a server and has none.

    Raises:
        ConfigError: the port is taken, the address is not ours, or a file of keys or certificates or the folder for
            dumps cannot be used.
        QuireError: the model cannot be loaded.
        EngineDeadError: the engine has failed too often.
    """
    configure_logging(server.log_level, server.log_format)
    # what is wrong with these files and folders is said before a model is loaded
    tls_options(server)
    KeyRing(server)
    if server.dump_requests:
        open_store(server)
    with bind(server.host, server.port) as listener:
        try:
            asyncio.run(_deaf_at_the_end(_serve(server, catalogue, listener)))
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
        # connections inherit it; by itself the system would hold megabytes for each client that does not read
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
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


async def _deaf_at_the_end(serving: Coroutine[Any, Any, None]) -> None:
    """Serve, and then take no more signals.

    There is nothing left to end by then, and an event loop that closes gives signals their defaults back: one more
    would end the process with a status of its own.
    """
    try:
        await serving
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class _Server(uvicorn.Server):
    """uvicorn without its handling of signals, which would end the process before the engine is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def _serve(config: ServerConfig, catalogue: Catalogue, listener: socket.socket) -> None:
    """Answer on the port from now on, with refusals until the model is loaded."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrorLog())
    loading = asyncio.current_task()
    if loading is not None:
        for each in SIGNALS:
            loop.add_signal_handler(each, loading.cancel, each)
    models = Models(catalogue, SupervisedEngine.start, config)
    gateway = Gateway(lambda: models.loading)
    server = _Server(
        uvicorn.Config(
            gateway,
            http=protocol_with_limits(config.stall_timeout, raise_descriptor_limit()),
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_keep_alive=config.keep_alive_timeout,
            timeout_graceful_shutdown=LAST_WORDS_SECONDS,
            **tls_options(config),
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        try:
            await models.start()
            gateway.open(create_app_for(models, config))
            gc.freeze()  # what is there now stays: collecting garbage need not go through it again and again
            url = base_url(config.host, listener.getsockname()[1], tls=bool(config.ssl_certfile))
            print(banner(models, config, url), flush=True)
            await _until_the_end(gateway, models, serving, config.shutdown_timeout)
        finally:
            await models.close()
    finally:
        server.should_exit = True
        await serving


async def _until_the_end(gateway: Gateway, models: Models, serving: asyncio.Task[None], patience: float) -> None:
    """Wait for a signal, then for the answers that run; a second signal ends the waiting.

    Where serving ends by itself there is nothing to wait for any more; whoever awaits `serving` learns why.

    Answers that are not done after `patience` seconds lose their model, so that each ends as clients understand, with
    an error.

    Raises:
        EngineDeadError: the engine has failed too often.
    """
    signalled = asyncio.Event()
    for each in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(each, signalled.set)
    giving_up = asyncio.create_task(models.given_up())
    serving_ended = asyncio.create_task(asyncio.wait({serving}))
    await _first(giving_up, asyncio.create_task(signalled.wait()), serving_ended)
    gateway.close()
    if not giving_up.cancelled():
        raise EngineDeadError(giving_up.result())
    signalled.clear()
    await _first(
        asyncio.create_task(gateway.drained()),
        asyncio.create_task(signalled.wait()),
        asyncio.create_task(asyncio.sleep(patience)),
    )
    await models.close()
    await _first(asyncio.create_task(gateway.drained()), asyncio.create_task(asyncio.sleep(LAST_WORDS_SECONDS)))


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Wait for one of the tasks and cancel the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
