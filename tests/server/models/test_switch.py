"""Which model is loaded, in virtual time: nothing here sleeps, and every order of events is the same in every run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.errors import (
    CapacityError,
    EngineDeadError,
    LoadConflictError,
    ModelLoadError,
    ModelUnloadedError,
    QuireError,
    ShuttingDownError,
)
from engine.messages import LoadProgress
from engine.stats import EngineStats
from engine.types import ModelInfo
from server.models.slot import Listener, SwitchPolicy
from server.models.switch import ModelSwitch
from tests.fakes.engine import MODEL, FakeEngine
from tests.fakes.virtual_time import run

LOAD_SECONDS = 4.0
CHECK_SECONDS = 1.0
CLOSE_SECONDS = 0.5
NAMES = ("a", "b", "c")


class Engine(FakeEngine):
    """An engine of the workshop below; takes time to end, and can be given up."""

    __hash__ = object.__hash__

    def __init__(self, workshop: Workshop, config: EngineConfig) -> None:
        super().__init__(model=replace(MODEL, name=config.name))
        self.config = config
        self.stats = EngineStats(running=1, steps_total=10)
        self.failed = asyncio.get_running_loop().create_future()
        self.fails_to_close = False
        self._workshop = workshop

    async def given_up(self) -> str:
        return str(await self.failed)

    async def close(self) -> None:
        if self.fails_to_close:
            self.fails_to_close = False
            raise RuntimeError("No thread can be started.")
        await super().close()
        await asyncio.sleep(CLOSE_SECONDS)
        self._workshop.alive.discard(self)


@dataclass
class Workshop:
    """Starts engines, keeps count of those that hold a model, and fails where it is told to.

    Attributes:
        alive: engines that hold a model.
        most: the most there ever were at a time.
        starts: names, in order.
        rooms: bytes that were promised to each.
        refused: models that the checks find wrong.
        broken: models that fail while they load.
    """

    alive: set[object] = field(default_factory=set)
    most: int = 0
    starts: list[str] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    engines: list[Engine] = field(default_factory=list)

    async def start(
        self,
        config: EngineConfig,
        *,
        on_progress: Listener,
        when_checked: Callable[[], Awaitable[None]],
        room_to_come: int,
    ) -> Engine:
        self.starts.append(config.name)
        self.rooms.append(room_to_come)
        await asyncio.sleep(CHECK_SECONDS)
        if config.name in self.refused:
            raise CapacityError("It does not fit.")
        await when_checked()
        engine = Engine(self, config)
        self.alive.add(engine)
        self.most = max(self.most, len(self.alive))
        on_progress(LoadProgress("weights", 1, 2))
        try:
            await asyncio.sleep(LOAD_SECONDS - CHECK_SECONDS)
            if config.name in self.broken:
                raise CapacityError("There is no memory left.")
        except BaseException:
            self.alive.discard(engine)
            raise
        self.engines.append(engine)
        return engine


def config(name: str, max_num_seqs: int = 8) -> EngineConfig:
    return EngineConfig(name=name, model=f"/models/{name}", max_num_seqs=max_num_seqs)


def with_switch(
    body: Callable[[ModelSwitch, Workshop], Awaitable[None]],
    names: tuple[str, ...] = NAMES,
    policy: SwitchPolicy | None = None,
) -> Workshop:
    """Run `body` against a switch; afterwards nothing may be left."""
    workshop = Workshop()

    async def main() -> None:
        switch = ModelSwitch(workshop.start, policy or SwitchPolicy())
        for name in names:
            switch.declare(name, config(name))
        try:
            await body(switch, workshop)
        finally:
            await switch.close()
            assert not workshop.alive
            assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    run(main())
    return workshop


async def ask(switch: ModelSwitch, name: str, seconds: float = 1.0) -> tuple[float, float]:
    """Use a model for some time; when it began and ended."""
    loop = asyncio.get_running_loop()
    async with switch.use(name) as engine:
        began = loop.time()
        assert engine.model.name == name
        engine.check_available()
        await asyncio.sleep(seconds)
        if not engine.healthy:
            raise EngineDeadError("The engine was shut down.")
    return began, loop.time()


def spawn(*asking: Awaitable[tuple[float, float]]) -> list[asyncio.Task[tuple[float, float]]]:
    return [asyncio.ensure_future(each) for each in asking]  # type: ignore[arg-type]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_declared_model_is_loaded_when_it_is_asked_for() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        assert switch.current is None
        (first,) = spawn(ask(switch, "a"))
        await asyncio.sleep(2)
        assert switch.loading is not None
        assert (switch.loading.name, switch.loading.progress) == ("a", LoadProgress("weights", 1, 2))
        assert switch.waiting("a") == 1
        assert await first == (LOAD_SECONDS, LOAD_SECONDS + 1)
        assert await ask(switch, "a") == (LOAD_SECONDS + 1, LOAD_SECONDS + 2)
        info = switch.known("a").info
        assert isinstance(info, ModelInfo)
        assert info.name == "a"
        assert workshop.starts == ["a"]

    with_switch(body)


@pytest.mark.parametrize(("beside", "most"), [(False, 1), (True, 2)])
def test_requests_are_finished_before_a_model_goes(beside: bool, most: int) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        running, other = spawn(ask(switch, "a", 20), ask(switch, "b"))
        began, ended = await running
        assert ended - began == 20
        began, _ = await other
        # its turn has lasted 10 seconds when the next one is begun to be checked
        assert began == (14 + LOAD_SECONDS if beside else ended + CLOSE_SECONDS + LOAD_SECONDS - CHECK_SECONDS)
        await asyncio.sleep(2 * CLOSE_SECONDS)
        assert switch.known("a").before == switch.stats("a") == EngineStats(steps_total=10)
        assert switch.stats("b") == EngineStats(running=1, steps_total=10)

    assert with_switch(body, policy=SwitchPolicy(beside=beside)).most == most


def test_a_turn_ends_early_where_nobody_uses_the_model() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        await asyncio.sleep(60)
        asked = now()
        began, _ = await ask(switch, "b")
        assert began == asked + LOAD_SECONDS + CLOSE_SECONDS
        held = MODEL.weight_bytes + MODEL.kv_cache_bytes
        assert workshop.rooms[0] == 0
        assert held < workshop.rooms[1] < held + 2**31

    with_switch(body)


def test_everybody_who_waits_for_a_model_is_served_together_and_models_take_turns() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        async def client(name: str) -> list[float]:
            return [(await ask(switch, name, 0.5))[0] for _ in range(40)]

        await asyncio.gather(*(client(name) for name in "abab"))
        # 20 seconds of work for each; a turn is 10 seconds
        assert len(workshop.starts) <= 6
        assert set(workshop.starts) == {"a", "b"}

    with_switch(body)


def test_new_requests_queue_behind_those_of_others_once_the_turn_is_over() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        _, other, in_turn = spawn(ask(switch, "a", 20), ask(switch, "b"), ask(switch, "a", 1))
        await asyncio.sleep(5)
        assert (await in_turn)[0] < now()
        (late_in_turn,) = spawn(ask(switch, "a", 1))
        await asyncio.sleep(7)  # the turn is over
        (after,) = spawn(ask(switch, "a", 1))
        await late_in_turn
        assert (await other)[1] <= (await after)[0]
        assert workshop.starts == ["a", "b", "a"]

    with_switch(body)


def test_requests_that_outlast_the_drain_are_ended_with_an_error() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        (endless,) = spawn(ask(switch, "a", 40))
        await asyncio.sleep(0)
        began, _ = await ask(switch, "b")
        assert began == LOAD_SECONDS + 10 + CHECK_SECONDS + 5 + CLOSE_SECONDS + LOAD_SECONDS - CHECK_SECONDS
        with pytest.raises(ModelUnloadedError, match="'a' was unloaded"):
            await endless

    with_switch(body, policy=SwitchPolicy(drain_timeout=5))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("how", ["refused", "broken"])
def test_a_failed_load_leaves_the_model_there_was(beside: bool, how: str) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        getattr(workshop, how).add("b")
        await switch.load("a", config("a"))
        await asyncio.sleep(60)
        with pytest.raises(ModelLoadError, match="'b' could not be loaded") as refused:
            await ask(switch, "b")
        assert 1 <= refused.value.retry_after <= 5
        await asyncio.sleep(LOAD_SECONDS + 1)
        assert switch.current is not None  # without anybody asking
        assert switch.current.name == "a"
        await ask(switch, "a")
        assert isinstance(switch.known("b").error, CapacityError)
        restored = not beside and how == "broken"
        assert workshop.starts == ["a", "b", *(["a"] if restored else [])]

    with_switch(body, policy=SwitchPolicy(beside=beside))


def test_a_model_that_cannot_be_loaded_is_not_tried_with_every_request() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        workshop.refused.add("a")
        for attempt, pause in enumerate((5, 10, 20, 40), 1):
            with pytest.raises(ModelLoadError):
                await ask(switch, "a")
            failed = now()
            for _ in range(10):
                with pytest.raises(ModelLoadError):
                    await ask(switch, "a")
            assert len(workshop.starts) == attempt
            with pytest.raises(ModelLoadError) as refused:
                switch.check("a")
            assert refused.value.retry_after == pause - (now() - failed)
            await asyncio.sleep(pause)
        workshop.refused.clear()
        await ask(switch, "a")
        assert switch.known("a").error is None

    with_switch(body)


def test_an_order_does_not_wait_for_the_pause_and_gets_the_reason() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        workshop.broken.add("a")
        for _ in range(2):
            with pytest.raises(CapacityError, match="no memory"):
                await switch.load("a", config("a"))
        workshop.broken.clear()
        await switch.load("a", config("a"))
        assert len(workshop.starts) == 3

    with_switch(body)


def test_settings_of_a_load_stay_and_a_load_that_fails_with_them_changes_nothing() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        await switch.load("a", config("a"))  # as it is
        assert workshop.starts == ["a"]
        await switch.load("a", config("a", 3))
        assert workshop.engines[-1].config.max_num_seqs == 3
        workshop.broken.add("a")
        with pytest.raises(CapacityError):
            await switch.load("a", config("a", 4))
        workshop.broken.clear()
        await ask(switch, "a")
        assert workshop.engines[-1].config.max_num_seqs == 3
        assert (switch.known("a").loads, switch.known("a").failed_loads) == (3, 1)

    with_switch(body)


def test_the_log_tells_of_loads_and_how_far_those_are_that_take_long(caplog: pytest.LogCaptureFixture) -> None:
    async def start(config: EngineConfig, *, on_progress: Listener, **_: object) -> FakeEngine:
        for done in range(12):
            await asyncio.sleep(1)
            on_progress(LoadProgress("weights", done, 12))
        return FakeEngine(model=replace(MODEL, name=config.name, load_seconds=12.0))

    async def main() -> None:
        switch = ModelSwitch(start, SwitchPolicy())
        switch.declare("a", config("a"))
        await switch.load("a", config("a"))
        await switch.close()

    with caplog.at_level("INFO"):
        run(main())
    assert caplog.messages == ["Loading a: weights, 33%", "Loading a: weights, 75%", "Loaded a in 12.0 seconds."]


def test_progress_is_told_to_whoever_ordered_the_load() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        seen: list[LoadProgress] = []
        first = asyncio.ensure_future(switch.load("a", config("a"), seen.append))
        await asyncio.sleep(0.5)
        await switch.load("a", config("a"), seen.append)  # joins the first
        await first
        assert seen == [LoadProgress("weights", 1, 2)] * 2
        assert workshop.starts == ["a"]

    with_switch(body)


def test_conflicting_orders_are_refused() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        first = asyncio.ensure_future(switch.load("a", config("a")))
        await asyncio.sleep(0.5)
        for other in (config("b"), config("a", 3)):
            with pytest.raises(LoadConflictError, match="'a' is being loaded"):
                await switch.load(other.name, other)
        await first

    with_switch(body)


@pytest.mark.parametrize("after", [0.5, 1.2, 2.0])
@pytest.mark.parametrize("beside", [False, True])
def test_a_cancelled_load_leaves_the_model_there_was(after: float, beside: bool) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        assert switch.cancel() is None
        await switch.load("a", config("a"))
        (waiter,) = spawn(ask(switch, "a", 3))
        load = asyncio.ensure_future(switch.load("b", config("b")))
        await asyncio.sleep(after)
        assert switch.cancel() == "b"
        with pytest.raises(LoadConflictError, match="cancelled"):
            await load
        await waiter
        await ask(switch, "a")
        assert (workshop.starts.count("b"), switch.known("b").retry_at) == (1, 0)
        assert (switch.known("b").error, switch.known("b").failed_loads) == (None, 0)

    with_switch(body, policy=SwitchPolicy(beside=beside))


def test_a_load_that_waits_for_an_unload_can_be_cancelled() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        (running,) = spawn(ask(switch, "a", 5))
        await asyncio.sleep(1)
        unload = asyncio.ensure_future(switch.unload(force=False))
        load = asyncio.ensure_future(switch.load("b", config("b")))
        await asyncio.sleep(1)
        assert not running.done()
        assert switch.cancel() == "b"
        with pytest.raises(LoadConflictError, match="cancelled"):
            await load
        assert switch.cancel() is None
        await running
        await unload
        assert (switch.current, workshop.starts) == (None, ["a"])

    with_switch(body)


def test_a_load_that_is_done_is_not_cancelled_while_the_model_before_it_ends() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        (running,) = spawn(ask(switch, "a", 20))
        load = asyncio.ensure_future(switch.load("b", config("b")))
        await asyncio.sleep(LOAD_SECONDS + 1)
        await ask(switch, "b")
        assert not load.done()
        assert switch.cancel() is None
        await load
        await running

    with_switch(body, policy=SwitchPolicy(beside=True))


def test_a_cancelled_load_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        load = asyncio.ensure_future(switch.load("a", config("a")))
        await asyncio.sleep(CHECK_SECONDS + 1)
        switch.cancel()
        with pytest.raises(LoadConflictError):
            await load

    with caplog.at_level("INFO"):
        with_switch(body)
    assert [(each.levelname, each.message) for each in caplog.records] == [("INFO", "Loading a was cancelled.")]


@pytest.mark.parametrize("force", [False, True])
def test_unloading(force: bool) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.unload(force=force)  # nothing is loaded
        await switch.load("a", config("a"))
        (running,) = spawn(ask(switch, "a", 5))
        await asyncio.sleep(1)
        await switch.unload(force=force)
        assert switch.current is None
        assert not workshop.alive
        if force:
            with pytest.raises(ModelUnloadedError):
                await running
        else:
            await running
        await ask(switch, "a")

    with_switch(body)


def test_a_model_nobody_uses_is_unloaded_and_comes_back() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        for _ in range(5):
            await ask(switch, "a", 40)
            await asyncio.sleep(20)
        assert workshop.starts == ["a"]
        await asyncio.sleep(11)
        assert not workshop.alive
        assert switch.current is None
        asked = now()
        assert (await ask(switch, "a"))[0] == asked + LOAD_SECONDS

    with_switch(body, policy=SwitchPolicy(idle_timeout=30))


@pytest.mark.parametrize("ticks", range(6))
def test_whoever_leaves_while_waiting_is_forgotten(ticks: int) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        for delay in (0.5, LOAD_SECONDS):  # the second: around the very moment it is served
            (waiter,) = spawn(ask(switch, "a"))
            await asyncio.sleep(delay)
            for _ in range(ticks):
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            assert switch.waiting("a") == 0
        assert switch.current is not None
        assert switch.current.users == 0
        await asyncio.sleep(31)
        assert switch.current is None

    with_switch(body, policy=SwitchPolicy(idle_timeout=30))


@pytest.mark.parametrize("beside", [False, True])
def test_a_model_loaded_with_other_settings_counts_on_and_counts_once(beside: bool) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        workshop.engines[0].stats = EngineStats(running=1, waiting=1, waiting_for_cache=1, steps_total=10)
        await switch.load("a", config("a", 3))
        await asyncio.sleep(2 * CLOSE_SECONDS)
        assert switch.known("a").before == EngineStats(steps_total=10)
        assert switch.stats("a") == EngineStats(running=1, steps_total=20)

    with_switch(body, policy=SwitchPolicy(beside=beside))


@pytest.mark.parametrize("beside", [False, True])
def test_an_order_that_met_what_nobody_foresaw_is_not_called_done(beside: bool) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        workshop.engines[0].fails_to_close = True
        with pytest.raises(EngineDeadError, match="server's log"):
            await switch.load("b", config("b"))
        assert switch.loading is None
        await ask(switch, "b")

    with_switch(body, policy=SwitchPolicy(beside=beside))


def test_the_only_model_being_given_up_is_the_end() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        workshop.engines[0].failed.set_result("It failed 4 times.")
        assert await switch.given_up() == "It failed 4 times."

    with_switch(body, ("a",))


def test_one_of_several_models_being_given_up_leaves_the_others() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        workshop.engines[0].failed.set_result("It failed 4 times.")
        await asyncio.sleep(1)
        assert switch.current is None
        with pytest.raises(ModelLoadError):
            switch.check("a")
        assert "4 times" in str(switch.known("a").error)
        assert switch.known("a").failed_loads == 0
        await ask(switch, "b")
        await asyncio.sleep(10)
        await ask(switch, "a")

    with_switch(body)


def test_closing_tells_everybody() -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        await switch.load("a", config("a"))
        waiting = spawn(ask(switch, "a", 9), ask(switch, "b"), ask(switch, "c"))
        order = asyncio.ensure_future(switch.load("b", config("b")))
        await asyncio.sleep(3)
        await switch.close()
        for each in (*waiting, order):
            with pytest.raises(ShuttingDownError):
                await each
        with pytest.raises(ShuttingDownError):
            switch.check("a")
        with pytest.raises(ShuttingDownError):
            await switch.unload(force=True)

    with_switch(body)


@pytest.mark.parametrize("ticks", range(8))
def test_closing_in_the_moment_a_load_ends_leaves_nothing(ticks: int) -> None:
    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        (waiter,) = spawn(ask(switch, "a"))
        await asyncio.sleep(LOAD_SECONDS - 0.25)
        await asyncio.sleep(0.25)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await switch.close()
        await asyncio.gather(waiter, return_exceptions=True)
        assert not workshop.alive

    with_switch(body)


EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from([0.0, 0.5, 3.0, 30.0])),
    st.tuples(st.just("leave"), st.sampled_from(NAMES), st.just(0.0)),
    st.tuples(st.just("load"), st.sampled_from(NAMES), st.sampled_from([8.0, 9.0])),
    st.tuples(st.just("unload"), st.sampled_from(("", "force")), st.just(0.0)),
    st.tuples(st.just("cancel"), st.just(""), st.just(0.0)),
    st.tuples(st.sampled_from(("refused", "broken", "sound")), st.sampled_from(NAMES), st.just(0.0)),
    st.tuples(st.just("give up"), st.just(""), st.just(0.0)),
    st.tuples(st.just("pass"), st.just(""), st.sampled_from([0.1, 0.9, 1.0, 2.5, 4.0, 11.0, 70.0, 400.0])),
)
PATIENCE = 2000.0
"""Virtual seconds after the last event, in which everything must have come to an end."""


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=25), st.booleans(), st.sampled_from([0.0, 8.0]), st.booleans())
def test_laws(events: list[tuple[str, str, float]], beside: bool, idle_timeout: float, early: bool) -> None:
    """Whatever happens: every request ends, in its own model or with an error of ours; of models in memory there are
    never more than allowed; what loads failed for is served as before; and nothing is left at the end."""

    async def body(switch: ModelSwitch, workshop: Workshop) -> None:
        asking: list[tuple[str, asyncio.Future[object]]] = []
        orders: list[asyncio.Future[object]] = []
        for what, name, number in events:
            match what:
                case "ask":
                    asking.append((name, asyncio.ensure_future(ask(switch, name, number))))
                case "leave":
                    for asked, task in asking:
                        if asked == name:
                            task.cancel()
                case "load":
                    orders.append(asyncio.ensure_future(switch.load(name, config(name, int(number)))))
                case "unload":
                    orders.append(asyncio.ensure_future(switch.unload(force=bool(name))))
                case "cancel":
                    switch.cancel()
                case "refused" | "broken":
                    getattr(workshop, what).add(name)
                case "sound":
                    workshop.refused.discard(name)
                    workshop.broken.discard(name)
                case "give up":
                    for engine in workshop.engines[-1:]:
                        if not engine.failed.done():
                            engine.healthy = False
                            engine.failed.set_result("It failed.")
                case _:
                    await asyncio.sleep(number)
        everything = [*(task for _, task in asking), *orders]
        if not early and everything:
            _, pending = await asyncio.wait(everything, timeout=PATIENCE)
            assert not pending
            workshop.refused.clear()
            workshop.broken.clear()
            await asyncio.sleep(400)  # all pauses after failures are over
            for name in NAMES:
                await ask(switch, name)
        await switch.close()
        for result in await asyncio.gather(*everything, return_exceptions=True):
            assert not isinstance(result, BaseException) or isinstance(result, QuireError | asyncio.CancelledError)

    workshop = with_switch(body, policy=SwitchPolicy(beside=beside, idle_timeout=idle_timeout, drain_timeout=20.0))
    assert workshop.most <= (2 if beside else 1)
