"""The engine seen from an event loop: a child process behind the `EngineClient` protocol. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from engine.admission import check_request, with_seed
from engine.child_process import start_child
from engine.config import EngineConfig
from engine.delta_stream import DeltaStream
from engine.errors import EngineDeadError, QuireError
from engine.messages import (
    AbortRequest,
    AddRequest,
    Command,
    EngineFailed,
    EngineReady,
    Load,
    LoadProgress,
    ModelChecked,
    Ping,
    Prepare,
    Shutdown,
    StepOutput,
)
from engine.revival import revive
from engine.stats import EngineStats
from engine.transport import ChannelClosedError, frame, read_message
from engine.types import GenerationRequest, ModelInfo, OutputDelta

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5.0
"""How long the process may take to end by itself before it is killed."""

LOOK_SECONDS = 0.5
"""Between two looks at whether a process that waits to load the model is still there."""

LOOKS = 4
"""How often the parent looks for a sign of life within `hang_timeout`.

Looks are counted and not seconds: where the parent itself stood still (a suspended machine, a stopped process group, an
event loop that runs only now and then), it must not blame the child.
"""


OnProgress = Callable[[LoadProgress], None]
WhenChecked = Callable[[], Awaitable[None]]


def ignore_progress(progress: LoadProgress) -> None:
    """An `OnProgress` for whom nobody waits."""


async def load_at_once() -> None:
    """A `WhenChecked` that lets loading go on."""


class AsyncEngine:
    """A running engine process. Make one with `await AsyncEngine.start(config)`; end it with `await close()`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        model: ModelInfo,
        hang_timeout: float,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._model = model
        self._stats = EngineStats()
        self._streams: dict[str, DeltaStream] = {}
        self._numbers = itertools.count()
        self._death: str | None = None  # why no more requests are taken
        self._ended = asyncio.Event()
        self._silent_looks = 0
        self._heard_at = time.monotonic()
        self._watching = asyncio.create_task(self._watch(hang_timeout))
        self._receiving = asyncio.create_task(self._receive())
        self._receiving.add_done_callback(self._end_receiving)

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        *,
        module: str = "engine.process",
        on_progress: OnProgress = ignore_progress,
        when_checked: WhenChecked = load_at_once,
        room_to_come: int = 0,
    ) -> AsyncEngine:
        """Start the process and wait until its model is loaded. Cancelling ends the process.

        Args:
            config: settings of the engine.
            module: run as the child process, with the socket's file descriptor, the log's level and its form as
                arguments.
            on_progress: told how far loading is, whenever it has got further.
            when_checked: awaited once all that can be known without loading is in order; the process has taken no
                memory for the model yet, so this is the time to end another one that must make room.
            room_to_come: bytes of memory that this will give back; rather too many than too few. A model that would not
                fit even then is refused before.

        Raises:
            QuireError: the model cannot be loaded; the class is that of the error in the process.
            EngineDeadError: the process could not be started, ended without saying why, or got no further for
                `load_timeout` seconds.
        """
        started = time.monotonic()
        process, ours = start_child(module)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            on_failure.callback(_kill, process)
            reader, writer = await asyncio.open_connection(sock=ours)
            on_failure.callback(writer.transport.abort)
            writer.write(frame(Prepare(config, room_to_come)))
            on_progress(LoadProgress("start"))
            model: ModelInfo | None = None
            while model is None:
                match await _next_event(reader, process, config.load_timeout):
                    case LoadProgress() as progress:
                        on_progress(progress)
                    case ModelChecked():
                        checked = time.monotonic()
                        await _while_it_lives(process, when_checked())
                        started += time.monotonic() - checked  # a wait for room is no part of loading
                        writer.write(frame(Load()))
                    case EngineReady(loaded):
                        model = replace(loaded, load_seconds=time.monotonic() - started)
                    case EngineFailed(kind, message):
                        raise revive(kind, message)
                    case other:
                        raise QuireError(f"The engine process began with a message '{type(other).__name__}'.")
            on_failure.pop_all()
        return cls(process, reader, writer, model, config.hang_timeout)

    @property
    def model(self) -> ModelInfo:
        """The loaded model."""
        return self._model

    @property
    def stats(self) -> EngineStats:
        """Figures of the latest step."""
        return self._stats

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self._death is None

    @property
    def responsive(self) -> bool:
        """Whether a step has completed or a ping was answered within the last half of `hang_timeout`."""
        return self.healthy and self._silent_looks <= LOOKS // 2

    @property
    def silent_seconds(self) -> float:
        """As `EngineClient.silent_seconds`."""
        return time.monotonic() - self._heard_at

    @property
    def last_failure(self) -> str | None:
        """As `EngineClient.last_failure`."""
        return self._death

    @property
    def pid(self) -> int:
        """Of the engine process."""
        return self._process.pid

    def check_available(self) -> None:
        """Raise `EngineDeadError` if no requests are taken any more."""
        if self._death is not None:
            raise EngineDeadError(self._death)

    async def ended(self) -> str:
        """Wait until the engine has died or was closed; says why."""
        await self._ended.wait()
        return self._death or ""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[OutputDelta, None]:
        """Queue the request and yield its deltas until every choice has finished; see `EngineClient.generate`.

        A reader that falls behind gets successive deltas of a choice as one.
        """
        self.check_available()
        check_request(request, self._model)
        # the process gets an id of our own: a late delta of an aborted request must not reach a new one of its name
        wire_id = f"{request.request_id}/{next(self._numbers)}"
        stream = self._streams[wire_id] = DeltaStream(request.sampling.n)
        self._send(AddRequest(replace(with_seed(request), request_id=wire_id), time.monotonic()))
        try:
            unread = request.sampling.n
            while unread:
                for delta in await stream.read():
                    unread -= delta.finish is not None
                    yield OutputDelta(request.request_id, *delta[1:])
        finally:
            del self._streams[wire_id]
            if not stream.finished:
                self._send(AbortRequest(wire_id))

    async def close(self) -> None:
        """End the process, by force after `SHUTDOWN_SECONDS`. Requests in flight fail. May be called again."""
        self._die("The engine was shut down.")
        self._send(Shutdown())
        await _await_exit(self._process)
        self._receiving.cancel()
        self._watching.cancel()
        await asyncio.gather(self._receiving, self._watching, return_exceptions=True)
        self._writer.transport.abort()

    def _send(self, command: Command) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write(frame(command))

    async def _receive(self) -> None:
        """Hand out what the process sends, until it ends."""
        try:
            while True:
                match await read_message(self._reader):
                    case EngineFailed(_, message):
                        self._die(message)
                    case event:
                        self._dispatch(event)
        except ChannelClosedError:
            if self._death is None:
                self._death = "The engine process has ended unexpectedly."  # said while how it ended is awaited
                how = await _await_exit(self._process)
                self._die(f"The engine process has ended unexpectedly ({how}).")

    async def _watch(self, hang_timeout: float) -> None:
        """Kill a process that sends neither steps nor answers."""
        while self._death is None:
            self._silent_looks += 1
            if self._silent_looks > LOOKS:
                self._die(f"The engine process has not answered for {hang_timeout:g} seconds.")
                self._process.kill()
                return
            self._send(Ping())
            await asyncio.sleep(hang_timeout / LOOKS)

    def _end_receiving(self, receiving: asyncio.Task[None]) -> None:
        """Leave no process behind that nobody listens to, and nobody waiting for it."""
        error = None if receiving.cancelled() else receiving.exception()
        if error is not None:
            logger.error("What the engine process sent could not be handled; it is ended.", exc_info=error)
            self._process.kill()
        if self._death is None:
            self._die("The connection to the engine process is lost.")

    def _dispatch(self, event: StepOutput) -> None:
        self._silent_looks = 0
        self._heard_at = time.monotonic()
        self._stats = event.stats
        for delta in event.deltas:
            stream = self._streams.get(delta.request_id)
            if stream is not None:
                stream.put(delta)
        for failure in event.failures:
            stream = self._streams.get(failure.request_id)
            if stream is not None:
                stream.fail(revive(failure.kind, failure.message))

    def _die(self, message: str) -> None:
        self._death = message
        self._ended.set()
        for stream in self._streams.values():
            if not stream.finished:
                stream.fail(EngineDeadError(message))  # one each: a traceback grows with every raise


async def _next_event(reader: asyncio.StreamReader, process: subprocess.Popen[bytes], patience: float) -> object:
    """What a process that loads says next."""
    try:
        async with asyncio.timeout(patience):
            return await read_message(reader)
    except ChannelClosedError:
        how = await _await_exit(process)
        raise EngineDeadError(f"The engine process ended while loading ({how}); see its output above.") from None
    except TimeoutError:
        raise EngineDeadError(f"Loading the model got no further for {patience:g} seconds (load_timeout).") from None


async def _while_it_lives(process: subprocess.Popen[bytes], waiting: Awaitable[None]) -> None:
    """Wait, but not for the sake of a process that has ended meanwhile."""
    task = asyncio.ensure_future(waiting)
    try:
        while not task.done() and process.poll() is None:
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
        if task.done():
            task.result()
    finally:
        task.cancel()


async def _await_exit(process: subprocess.Popen[bytes]) -> str:
    """Wait for the process to end, not for long; says how it ended."""
    try:
        code = await asyncio.to_thread(process.wait, SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    else:
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    with contextlib.suppress(subprocess.TimeoutExpired):  # a device driver may hold on to it, and must not to us
        await asyncio.to_thread(process.wait, SHUTDOWN_SECONDS)
    return f"killed, for it did not end within {SHUTDOWN_SECONDS:g} seconds"


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
