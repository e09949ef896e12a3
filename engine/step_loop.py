"""The life of the engine process: load, then drain the inbox and step until told to end.

Free of torch, so that its tests can run it around a toy engine.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Callable

from engine.child_process import end_with_parent
from engine.config import EngineConfig
from engine.core import EngineCore
from engine.errors import EngineDeadError, QuireError
from engine.load_report import LoadReport
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
    RequestFailed,
    Shutdown,
)
from engine.transport import Channel, ChannelClosedError
from engine.types import ModelInfo

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.2
"""Least time between two reports of how far a part of loading is."""

BuildEngine = Callable[[EngineConfig, LoadReport], tuple[EngineCore, ModelInfo]]


def run_engine_process(file_descriptor: int, build: BuildEngine) -> None:
    """Serve the parent at the other end of a socket until it says `Shutdown` or is gone.

    Args:
        file_descriptor: of a connected stream socket, inherited from the parent.
        build: loads the model and builds the engine; a `QuireError` from it is reported to the parent.
    """
    # a supervisor may signal the parent's children too; the parent decides when this process ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=file_descriptor) as connection:
        end_with_parent(connection)
        channel = Channel(connection)
        try:
            asked: Prepare = channel.receive()
            try:
                core, model = build(asked.config, _LoadReport(channel, asked.room_to_come))
            except QuireError as error:
                channel.send(EngineFailed(type(error).__name__, str(error)))
                return
            gc.freeze()  # what is there now stays: no step has to wait while garbage is looked for in it
            channel.send(EngineReady(model))
            try:
                _serve(channel, core)
            except EngineDeadError as error:
                logger.exception("The engine cannot go on; its process ends.")
                channel.send(EngineFailed(type(error).__name__, str(error)))
        except ChannelClosedError:
            logger.info("The parent process is gone; the engine process ends.")


class _LoadReport:
    """Tells the parent, and waits for it once the model is checked."""

    def __init__(self, channel: Channel, room_to_come: int) -> None:
        self.room_to_come = room_to_come
        self._channel = channel
        self._latest = LoadProgress("")
        self._sent_at = 0.0

    def checked(self) -> None:
        self._channel.send(ModelChecked())
        self._channel.receive()  # Load: nothing else is said to a process without a model

    def stage(self, name: str, total: int = 0) -> None:
        self._send(LoadProgress(name, 0, total))

    def reach(self, done: int) -> None:
        if done > self._latest.done and time.monotonic() - self._sent_at >= REPORT_SECONDS:
            self._send(self._latest._replace(done=done))

    def _send(self, progress: LoadProgress) -> None:
        self._latest = progress
        self._sent_at = time.monotonic()
        self._channel.send(progress)


def _serve(channel: Channel, core: EngineCore) -> None:
    while True:
        commands: list[Command] = [] if core.has_work else [channel.receive()]
        commands += channel.receive_arrived()
        refused: list[RequestFailed] = []
        for command in commands:
            match command:
                case AddRequest(request, sent_at):
                    try:
                        core.add(request, sent_at)
                    except QuireError as error:
                        refused.append(RequestFailed(request.request_id, type(error).__name__, str(error)))
                case AbortRequest(request_id):
                    core.abort(request_id)
                case Ping():
                    pass  # the step below is the answer
                case Shutdown():
                    return
                case Prepare() | Load():
                    pass  # long done
        output = core.step()
        channel.send(output._replace(failures=(*refused, *output.failures)))
