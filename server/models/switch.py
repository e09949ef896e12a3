"""Which model is loaded: at most one, the one that requests or whoever runs the server ask for.

All decisions are made in one place, `ModelSwitch._next`, and carried out one after the other by one task, which lives
only while there is something to decide. What requests of the loaded model do needs no decision and passes it by.

The policy. The model that is asked for first is next. A model that is in use has a turn of `turn_seconds` from the
moment it was loaded, or until nobody has used it for a second; its own requests go on being served meanwhile, new ones
too. Then new ones queue behind the others' and those that run have `drain_timeout` seconds to end. Everybody who waits
for a model when it has been loaded is served together, whenever they came. So nobody waits longer than the turns,
drains and loads of the models that were asked for before, and models do not change with every request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import (
    EngineDeadError,
    LoadConflictError,
    ModelLoadError,
    ModelUnloadedError,
    QuireError,
    ShuttingDownError,
)
from engine.stats import EngineStats, continued, ended
from server.models.orders import Order, OrderBook
from server.models.slot import Engine, KnownModel, Listener, Loading, Slot, StartEngine, SwitchPolicy, first_of
from server.models.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)


class ModelSwitch:
    """Loads, exchanges and unloads models.

    Args:
        start: starts an engine.
        policy: when and how.
    """

    def __init__(self, start: StartEngine, policy: SwitchPolicy) -> None:
        self._start = start
        self._policy = policy
        self._known: dict[str, KnownModel] = {}
        self._slot: Slot | None = None
        self._ending: Slot | None = None  # no longer current, its process not yet gone
        self._loading: Loading | None = None
        self._waiting = WaitingRoom(self._leave)
        self._orders = OrderBook()
        self._restore: tuple[str, EngineConfig] | None = None  # ended for a model that then failed to load
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._given_up = asyncio.Event()
        self._closed = False

    # what there is

    def declare(self, name: str, config: EngineConfig) -> None:
        """Make a model known, or change what it is loaded with the next time."""
        known = self._known.get(name)
        if known is None:
            self._known[name] = KnownModel(config)
        else:
            known.config, known.retry_at = config, 0.0

    def adopt(self, name: str, engine: EngineClient) -> None:
        """Take a running engine for that of a declared model; whoever started it looks after it."""
        self._slot = Slot(name, self._known[name].config, engine, 0.0)

    def known(self, name: str) -> KnownModel:
        """What is known of a declared model."""
        return self._known[name]

    @property
    def current(self) -> Slot | None:
        """The loaded model."""
        return self._slot

    @property
    def loading(self) -> Loading | None:
        """The load that goes on."""
        return self._loading

    def engine(self, name: str) -> EngineClient | None:
        """The engine of a model, if it is loaded."""
        return self._slot.engine if self._slot is not None and self._slot.name == name else None

    def stats(self, name: str) -> EngineStats:
        """Figures of a model; counters go on from engine to engine."""
        stats = self._known[name].before
        for slot in (self._ending, self._slot):
            if slot is not None and slot.name == name:
                stats = continued(stats, slot.engine.stats)
        return stats

    def waiting(self, name: str) -> int:
        """Requests that wait for the model to be loaded."""
        return self._waiting.count(name)

    # what requests want

    def check(self, name: str) -> None:
        """Refuse requests that could not be answered soon.

        Raises:
            ShuttingDownError: the server ends.
            EngineDeadError: the model's engine takes no requests.
            ModelLoadError: the model could not be loaded a short while ago.
        """
        if self._closed:
            raise ShuttingDownError
        engine, known = self.engine(name), self._known[name]
        if engine is not None:
            engine.check_available()
        elif known.error is not None and known.retry_at > self._now():
            raise ModelLoadError(name, retry_after=known.retry_at - self._now())

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[EngineClient]:
        """The engine of a declared model, kept for as long as the block lasts; waits until it is loaded.

        Raises:
            ModelLoadError: the model cannot be loaded.
            ShuttingDownError, ModelUnloadedError: in place of the engine's own error, if the server or the model had to
                go before the block's end.
        """
        slot = self._slot
        if slot is not None and slot.name == name and slot.open:
            slot.enter()
        else:
            self.check(name)
            place = self._waiting.enter(name)
            self._wake()
            slot = await self._waiting.wait(place)
        try:
            yield slot.engine
        except EngineDeadError:
            if self._closed:
                raise ShuttingDownError from None
            if slot.evicted:
                raise ModelUnloadedError(name) from None
            raise
        finally:
            self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        slot.leave(self._now())
        if not slot.users and (self._waiting.first is not None or self._policy.idle_timeout):
            self._wake()

    # what whoever runs the server wants

    async def load(self, name: str, config: EngineConfig, on_progress: Listener | None = None) -> None:
        """Load a declared model with these settings, which it keeps; what is loaded otherwise ends.

        Raises:
            LoadConflictError: another load was ordered and is not done, or this one was cancelled.
            QuireError: the model cannot be loaded. The one loaded before is, or will be, as it was.
        """
        order = self._orders.load
        if order is None:
            order = Order(name, config, asyncio.get_running_loop().create_future())
            self._submit(order)
        elif (order.name, order.config) != (name, config):
            raise LoadConflictError(
                f"The model '{order.name}' is being loaded. Wait until it is, or cancel that, and try again."
            )
        if on_progress is not None:
            order.listeners.append(on_progress)
        await asyncio.shield(order.done)

    async def unload(self, *, force: bool) -> None:
        """End the loaded model, if there is one. The next request for it loads it again.

        Args:
            force: do not wait for running requests, which fail.
        """
        order = Order(None, None, asyncio.get_running_loop().create_future(), force)
        self._submit(order)
        await asyncio.shield(order.done)

    def cancel(self) -> str | None:
        """Give up the load that goes on, or else the one that was ordered; the name of its model, None without one."""
        loading = self._loading
        if loading is None:
            return self._orders.cancel_load()
        return loading.name if loading.task.cancel() else None

    async def given_up(self) -> str:
        """Wait until the engine of the only model there is has failed too often; says how, in one line."""
        await self._given_up.wait()
        return str(next(iter(self._known.values())).error)

    async def close(self) -> None:
        """End everything. Whoever waits or runs is told. May be called again."""
        self._closed = True
        loading = None if self._loading is None else self._loading.task
        slots = [slot for slot in (self._slot, self._ending) if slot is not None]
        tasks = [task for task in (self._worker, loading, *(slot.watcher for slot in slots)) if task is not None]
        for task in tasks:
            task.cancel()
        self._refuse_everybody(ShuttingDownError)
        await asyncio.gather(*tasks, return_exceptions=True)
        if loading is not None and not loading.cancelled() and loading.exception() is None:
            await loading.result().close()
        for slot in slots:
            await slot.engine.close()

    # decisions

    def _next(self) -> Coroutine[Any, Any, object] | float | None:
        """What is to be done now; or else when to ask again; or None where only an event can change anything."""
        slot, now = self._slot, self._now()
        if slot is not None and slot.lost is not None:
            return self._drop(slot, slot.lost)
        if self._restore is not None:
            return self._bring_back(*self._restore)
        order = self._orders.first
        if order is not None:
            return self._obey(order)
        name = self._waiting.first
        if name is not None:
            due = now if slot is None else slot.turn_ends(self._policy.turn_seconds)
            return self._bring_up(name, self._known[name].config, []) if due <= now else due
        if slot is not None and not slot.users and self._policy.idle_timeout:
            due = slot.unused_since + self._policy.idle_timeout
            return self._put_to_sleep(slot) if due <= now else due
        return None

    async def _work(self) -> None:
        while True:
            self._changed.clear()
            decision = self._next()
            if decision is None:
                return
            if isinstance(decision, float):
                try:
                    async with asyncio.timeout_at(decision):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            else:
                await decision
                self._serve_waiting()

    def _wake(self) -> None:
        """Have somebody look at `_next`."""
        self._changed.set()
        if self._closed or (self._worker is not None and not self._worker.done()):
            return
        self._worker = asyncio.create_task(self._work(), name="model-switch")
        self._worker.add_done_callback(self._after_work)

    def _after_work(self, worker: asyncio.Task[None]) -> None:
        """Leave nobody waiting for a decision that nobody makes."""
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            logger.error("The switch between models failed unexpectedly.", exc_info=error)
            self._refuse_everybody(lambda: EngineDeadError("The switch between models failed; see the server's log."))

    # carrying out

    async def _obey(self, order: Order) -> None:
        slot, error = self._slot, None
        order.begun = True
        if order.name is None or order.config is None:
            if slot is not None:
                await self._end(slot, 0.0 if order.force else self._policy.drain_timeout)
        elif slot is None or (slot.name, slot.config) != (order.name, order.config):
            error = await self._bring_up(order.name, order.config, order.listeners)
        self._orders.settle(order, error)

    async def _bring_back(self, name: str, config: EngineConfig) -> None:
        self._restore = None
        logger.warning("Loading %s again, which was ended to make room.", name)
        await self._bring_up(name, config, [])

    async def _bring_up(self, name: str, config: EngineConfig, listeners: list[Listener]) -> Exception | None:
        """Load a model in place of the present one; the error if that failed and all is, or will be, as it was."""
        previous, known = self._slot, self._known[name]
        room = 0 if previous is None or self._policy.beside else previous.memory
        loading = self._loading = Loading(name, listeners, self._start, config, room)
        try:
            await self._make_room(loading)
            loading.room.set()
            await asyncio.wait({loading.task})
        finally:
            loading.task.cancel()  # unless it has ended
            self._loading = None
        error = loading.failure
        if error is None:
            engine = loading.task.result()
            known.succeeded(config, engine.model)
            logger.info("Loaded %s in %.1f seconds.", name, engine.model.load_seconds)
            self._install(Slot(name, config, engine, self._now()), engine)
            if previous is not None and self._ending is previous:
                await self._end(previous, self._policy.drain_timeout)
            return None
        self._note_failure(name, config, error)
        if previous is not None and self._slot is None:
            self._restore = previous.name, previous.config
        return error

    async def _make_room(self, loading: Loading) -> None:
        """End the present model once the next one is checked; unless both may be there, or the load fails before."""
        await first_of(loading.checked, loading.task)
        if self._slot is not None and not loading.task.done() and not self._policy.beside:
            await self._end(self._slot, self._policy.drain_timeout, unless=loading.task)

    def _install(self, slot: Slot, engine: Engine) -> None:
        """Make a model the present one; one there was takes no further requests."""
        if self._slot is not None:
            self._slot.open = False
            self._ending = self._slot
        self._slot = slot
        slot.watcher = asyncio.create_task(self._watch(slot, engine))
        self._serve_waiting()

    async def _watch(self, slot: Slot, engine: Engine) -> None:
        slot.lost = await engine.given_up()
        self._wake()

    async def _end(self, slot: Slot, patience: float, unless: asyncio.Future[Any] | None = None) -> None:
        """Let no further requests use a model, give those that do some time, and end it.

        Args:
            slot: the model.
            patience: seconds.
            unless: if this ends before there is an end to the requests, everything stays as it is.
        """
        slot.open = False
        await first_of(slot.free, unless, patience)
        if unless is not None and unless.done():
            return  # the slot is opened again when the waiting are served
        slot.evicted = slot.users > 0
        if self._slot is slot:
            self._slot = None
        self._ending = slot
        if slot.watcher is not None:
            slot.watcher.cancel()
        await slot.engine.close()
        known = self._known[slot.name]
        known.before = ended(continued(known.before, slot.engine.stats))
        self._ending = None

    async def _drop(self, slot: Slot, why: str) -> None:
        """A model whose engine has failed too often."""
        known = self._known[slot.name]
        known.error = EngineDeadError(why)
        known.pause(self._now())
        if len(self._known) == 1:
            self._given_up.set()
        logger.error("%s The model %s is unloaded.", why, slot.name)
        await self._end(slot, 0.0)

    async def _put_to_sleep(self, slot: Slot) -> None:
        logger.info("Unloading %s: nobody has used it for %g seconds.", slot.name, self._policy.idle_timeout)
        await self._end(slot, 0.0)

    def _serve_waiting(self) -> None:
        """Let everybody use the present model who waits for it."""
        slot = self._slot
        if slot is not None and slot.lost is None:
            slot.open = True
            self._waiting.serve(slot)

    def _note_failure(self, name: str, config: EngineConfig, error: Exception) -> None:
        known, cancelled = self._known[name], isinstance(error, LoadConflictError)
        if cancelled:
            logger.info("Loading %s was cancelled.", name)
        else:
            unforeseen = None if isinstance(error, QuireError) else error
            logger.error("The model %s could not be loaded: %s", name, error, exc_info=unforeseen)
            known.failed(error)
        if config != known.config:  # settings that were tried once; requests wait for the usual ones
            return
        if not cancelled:
            known.pause(self._now())
        pause = max(1.0, known.retry_at - self._now())
        self._waiting.fail(lambda: ModelLoadError(name, retry_after=pause), name)

    def _refuse_everybody(self, error: Callable[[], QuireError]) -> None:
        self._waiting.fail(error)
        self._orders.refuse(error)

    def _submit(self, order: Order) -> None:
        if self._closed:
            raise ShuttingDownError
        self._orders.add(order)
        self._wake()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
