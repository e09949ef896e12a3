"""What the switch keeps books of: a model it knows, a loaded one, a load."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import LoadConflictError, QuireError
from engine.messages import LoadProgress
from engine.stats import EngineStats
from engine.types import ModelInfo

logger = logging.getLogger(__name__)

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds requests for a model are refused after it could not be loaded; doubles from failure to failure."""

PAUSE_OF_A_TURN = 1.0
"""Seconds without a request after which nobody is thought to be in the middle of something with a model."""

BESIDES_WEIGHTS_AND_CACHE = 1 << 30

LOG_SECONDS = 5.0
"""Between two lines about a load; a short one goes without."""

Listener = Callable[[LoadProgress], None]


class Engine(EngineClient, Protocol):
    """An engine that outlives its process for a while, and says so when it does not: `SupervisedEngine`."""

    async def given_up(self) -> str:
        """Wait until it has failed too often; says how, in one line."""
        ...


class StartEngine(Protocol):
    """Starts an engine and waits until its model is loaded: `SupervisedEngine.start`. Cancelling leaves nothing."""

    async def __call__(
        self,
        config: EngineConfig,
        *,
        on_progress: Listener,
        when_checked: Callable[[], Awaitable[None]],
        room_to_come: int,
    ) -> Engine:
        """As `AsyncEngine.start`."""
        ...


@dataclass(frozen=True, slots=True)
class SwitchPolicy:
    """When and how models change; the settings of the same names in `ServerConfig`."""

    beside: bool = False
    idle_timeout: float = 0.0
    drain_timeout: float = 60.0
    turn_seconds: float = 10.0


@dataclass(slots=True)
class KnownModel:
    """A model that can be loaded.

    Attributes:
        config: what it is loaded with.
        info: what it was when it was loaded last.
        error: why it could not be loaded the last time, or its engine was given up, if that was after it was last
            loaded.
        retry_at: when requests may try again, in seconds of the event loop.
        before: figures of the engines that have ended.
        loads, failed_loads: how often it was loaded, and could not be.
    """

    config: EngineConfig
    info: ModelInfo | None = None
    error: Exception | None = None
    retry_at: float = 0.0
    before: EngineStats = field(default_factory=EngineStats)
    loads: int = 0
    failed_loads: int = 0
    _pause: float = 0.0

    def succeeded(self, config: EngineConfig, info: ModelInfo) -> None:
        """Note a load."""
        self.config, self.info, self.error = config, info, None
        self._pause = self.retry_at = 0.0
        self.loads += 1

    def failed(self, error: Exception) -> None:
        """Note that it could not be loaded."""
        self.error = error
        self.failed_loads += 1

    def pause(self, now: float) -> None:
        """Refuse requests for a while, each time longer than the last."""
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.retry_at = now + self._pause


class Slot:
    """A loaded model and the requests that use it.

    Attributes:
        open: whether further requests may use it.
        evicted: whether it was ended while requests still used it.
        lost: why its engine was given up.
        watcher: looks out for that.
    """

    def __init__(self, name: str, config: EngineConfig, engine: EngineClient, now: float) -> None:
        self.name = name
        self.config = config
        self.engine = engine
        self.open = True
        self.evicted = False
        self.lost: str | None = None
        self.users = 0
        self.free = asyncio.Event()
        self.free.set()
        self.loaded_at = self.unused_since = now
        self.watcher: asyncio.Task[None] | None = None

    def enter(self) -> None:
        """A request begins to use it."""
        self.users += 1
        self.free.clear()

    def leave(self, now: float) -> None:
        """A request is done with it."""
        self.users -= 1
        if not self.users:
            self.unused_since = now
            self.free.set()

    @property
    def memory(self) -> int:
        """Bytes its end will give back, generously: what an engine takes besides weights and cache is not known."""
        model = self.engine.model
        return (model.weight_bytes + model.kv_cache_bytes) * 5 // 4 + BESIDES_WEIGHTS_AND_CACHE

    def turn_ends(self, turn_seconds: float) -> float:
        """From when on it gives way to a model that others wait for."""
        longest = self.loaded_at + turn_seconds
        return longest if self.users else min(longest, self.unused_since + PAUSE_OF_A_TURN)


class Loading:
    """A load that goes on.

    Attributes:
        name: of the model.
        progress: the latest there is.
        checked: set once the process waits for room.
        room: to be set when there is.
        task: gives the engine.
    """

    def __init__(
        self, name: str, listeners: list[Listener], start: StartEngine, config: EngineConfig, room_to_come: int
    ) -> None:
        self.name = name
        self.listeners = listeners
        self.progress = LoadProgress("start")
        self.checked = asyncio.Event()
        self.room = asyncio.Event()
        self._logged_at = asyncio.get_running_loop().time()
        self.task = asyncio.ensure_future(
            start(config, on_progress=self._on_progress, when_checked=self._when_checked, room_to_come=room_to_come)
        )

    @property
    def failure(self) -> Exception | None:
        """Why the load, which has ended, gave no engine."""
        if self.task.cancelled():
            return LoadConflictError("Loading was cancelled.")
        error = self.task.exception()
        return error if error is None or isinstance(error, Exception) else QuireError(str(error))

    async def _when_checked(self) -> None:
        self.checked.set()
        await self.room.wait()

    def _on_progress(self, progress: LoadProgress) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            share = f", {progress.done / progress.total:.0%}" if progress.total else ""
            logger.info("Loading %s: %s%s", self.name, progress.stage, share)
        self.progress = progress
        for listener in self.listeners:
            listener(progress)


async def first_of(event: asyncio.Event, other: asyncio.Future[Any] | None, patience: float | None = None) -> None:
    """Wait for the event or for the other to end, at most `patience` seconds."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        awaited = {waiting} if other is None else {waiting, other}
        await asyncio.wait(awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
