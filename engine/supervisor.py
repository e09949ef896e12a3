"""An engine that outlives its process: a child that dies is replaced by a new one with the same settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator

from engine.async_engine import AsyncEngine, OnProgress, WhenChecked, ignore_progress, load_at_once
from engine.config import EngineConfig
from engine.errors import EngineDeadError, EngineRestartingError, QuireError
from engine.stats import EngineStats, continued, ended
from engine.types import GenerationRequest, ModelInfo, OutputDelta

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two attempts at loading: what was in the way of the first may be gone by then."""


class SupervisedEngine:
    """An `EngineClient` around one engine process after another. Make one with `start`; end it with `close`.

    Requests in flight when a process dies fail with `EngineDeadError`; new ones get `EngineRestartingError` until the
    next process has loaded the model. After `max_restarts` restarts within `restart_window` seconds the next failure is
    the last.
    """

    def __init__(self, config: EngineConfig, module: str, engine: AsyncEngine, on_progress: OnProgress) -> None:
        self._config = config
        self._module = module
        self._on_progress = on_progress
        self._engine = engine
        self._before = EngineStats()  # of the processes that are no more
        self._failures: deque[float] = deque()  # when, within the window
        self._last_failure: str | None = None
        self._last: str | None = None  # why no other process will be started
        self._given_up = asyncio.Event()
        self._supervising = asyncio.create_task(self._supervise())
        self._supervising.add_done_callback(self._after_supervising)

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        *,
        module: str = "engine.process",
        on_progress: OnProgress = ignore_progress,
        when_checked: WhenChecked = load_at_once,
        room_to_come: int = 0,
    ) -> SupervisedEngine:
        """Start the first process and wait until its model is loaded. A failure of this one is not tried again.

        Args:
            config: settings of the engine.
            module: as for `AsyncEngine.start`.
            on_progress: as for `AsyncEngine.start`; told of later processes too.
            when_checked, room_to_come: as for `AsyncEngine.start`, for the first process.

        Raises:
            QuireError: as `AsyncEngine.start`.
        """
        engine = await AsyncEngine.start(
            config, module=module, on_progress=on_progress, when_checked=when_checked, room_to_come=room_to_come
        )
        return cls(config, module, engine, on_progress)

    @property
    def model(self) -> ModelInfo:
        """The model as loaded last."""
        return self._engine.model

    @property
    def stats(self) -> EngineStats:
        """Figures of the latest step; counters go on from process to process."""
        stats = continued(self._before, self._engine.stats)
        return stats if self._engine.healthy else ended(stats)

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        return self._engine.healthy

    @property
    def responsive(self) -> bool:
        """As `EngineClient.responsive`."""
        return self._engine.responsive

    @property
    def silent_seconds(self) -> float:
        """As `EngineClient.silent_seconds`."""
        return self._engine.silent_seconds

    @property
    def last_failure(self) -> str | None:
        """As `EngineClient.last_failure`."""
        return self._last_failure

    @property
    def pid(self) -> int:
        """Of the engine process; changes with every restart."""
        return self._engine.pid

    def check_available(self) -> None:
        """As `EngineClient.check_available`."""
        if self._engine.healthy:
            return
        if self._last is not None:
            raise EngineDeadError(self._last)
        raise EngineRestartingError(
            "The engine has failed and is being restarted. Please try again.",
            retry_after=max(1.0, self._engine.model.load_seconds),
        )

    def generate(self, request: GenerationRequest) -> AsyncIterator[OutputDelta]:
        """As `EngineClient.generate`, by the present process; a request does not move to the next one."""
        self.check_available()
        return self._engine.generate(request)

    async def given_up(self) -> str:
        """Wait until the engine has failed too often; says how, in one line."""
        await self._given_up.wait()
        return self._last or ""

    async def close(self) -> None:
        """End the process, or the start of the next one. Requests in flight fail. May be called again."""
        self._last = self._last or "The engine was shut down."
        self._supervising.cancel()
        await asyncio.gather(self._supervising, return_exceptions=True)
        await self._engine.close()

    async def _supervise(self) -> None:
        while True:
            self._last_failure = reason = await self._engine.ended()
            await self._engine.close()
            successor = await self._successor(reason)
            if successor is None:
                return
            self._before = self.stats._replace(restarts_total=self.stats.restarts_total + 1)
            self._engine = successor
            logger.warning("The engine has been restarted and takes requests again.")

    async def _successor(self, reason: str) -> AsyncEngine | None:
        """The next process, its model loaded; None if there have been too many failures."""
        while self._may_restart():
            logger.error("%s Starting a new engine process.", reason)
            try:
                return await AsyncEngine.start(self._config, module=self._module, on_progress=self._on_progress)
            except QuireError as error:
                reason = str(error)
                await asyncio.sleep(PAUSE_SECONDS)
        self._last = (
            f"The engine failed {len(self._failures)} times within {self._config.restart_window:g} seconds and is "
            f"given up; the last time: {reason}"
        )
        self._given_up.set()
        return None

    def _after_supervising(self, supervising: asyncio.Task[None]) -> None:
        """Promise no restart that nobody will see to."""
        error = None if supervising.cancelled() else supervising.exception()
        if error is not None:
            logger.error("The engine could not be restarted, for a reason nobody foresaw.", exc_info=error)
            self._last = f"The engine failed and could not be restarted ({type(error).__name__}; see the log)."
            self._given_up.set()

    def _may_restart(self) -> bool:
        """Count a failure; whether it is one that is made good."""
        now = time.monotonic()
        self._failures.append(now)
        while now - self._failures[0] > self._config.restart_window:
            self._failures.popleft()
        return len(self._failures) <= self._config.max_restarts
