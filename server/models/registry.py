"""All models of a server by their names, and what whoever runs it can do with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import ConfigError, ModelNotFoundError
from server.config import ServerConfig
from server.grammar_checks import GrammarChecks
from server.models.catalogue import Catalogue, DeclaredModel
from server.models.served import ServedModel, fresh_text
from server.models.slot import Engine, Listener, Loading, StartEngine, SwitchPolicy
from server.models.switch import ModelSwitch
from server.observability.metrics import MetricFamilies, Metrics
from server.text import ModelText


class Models:
    """Every model there is, at most one of them loaded.

    Args:
        catalogue: those that are known from the start.
        start: starts an engine.
        config: settings of the HTTP side.

    Raises:
        ConfigError: a model's settings cannot be used.
    """

    def __init__(self, catalogue: Catalogue, start: StartEngine, config: ServerConfig) -> None:
        policy = SwitchPolicy(
            beside=config.switch == "beside",
            idle_timeout=config.idle_timeout,
            drain_timeout=config.drain_timeout,
            turn_seconds=config.turn_seconds,
        )
        self.grammars = GrammarChecks()
        self.families = MetricFamilies(lambda: [model.figures for model in self])
        self._switch = ModelSwitch(start, policy)
        self._catalogue = catalogue
        self._models: dict[str, ServedModel] = {}  # by each of their names
        self._loads: set[asyncio.Task[ServedModel]] = set()
        for declared in catalogue.models:
            self._add(declared, declared.configure({}))

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(dict.fromkeys(self._models.values()))

    @property
    def loading(self) -> Loading | None:
        """The load that goes on."""
        return self._switch.loading

    @property
    def loaded(self) -> ServedModel | None:
        """The loaded model."""
        return None if self._switch.current is None else self._models[self._switch.current.name]

    @property
    def default(self) -> ServedModel | None:
        """What a request gets that names no model: the loaded one, the next one, or the first."""
        loading = self._switch.loading
        name = self._catalogue.start if loading is None else loading.name
        return self.loaded or self._models.get(name or "") or next(iter(self._models.values()), None)

    def find(self, asked: str | None) -> ServedModel:
        """The model of this name; the default, if it is None or empty.

        Raises:
            ModelNotFoundError: there is none.
        """
        found = self._models.get(asked) if asked else self.default
        if found is None:
            raise ModelNotFoundError(asked or "", tuple(self._models))
        return found

    async def load(self, name: str, settings: Mapping[str, object], on_progress: Listener | None = None) -> ServedModel:
        """Load a model in place of the present one.

        Args:
            name: of a known model, or a path below the folder that may be loaded from.
            settings: that win over all others. They stay the model's until it is loaded in this way again.
            on_progress: told how far loading is.

        Raises:
            ModelNotFoundError: there is no such model.
            ConfigError: a setting is unknown, wrong, or not to be set here.
            QuireError: as `ModelSwitch.load`.
        """
        declared = self._declaration(name)
        config = declared.configure(settings)
        text = await fresh_text(config)
        model = self._models.get(name) or self._add(declared, config)
        await self._switch.load(model.name, config, on_progress)
        model.adopt(text)
        return model

    def begin_load(self, name: str, settings: Mapping[str, object], on_progress: Listener) -> asyncio.Task[ServedModel]:
        """`load`, which goes on whether somebody waits for it or not."""
        task = asyncio.create_task(self.load(name, settings, on_progress))
        self._loads.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, load: asyncio.Task[ServedModel]) -> None:
        self._loads.discard(load)
        if not load.cancelled():
            load.exception()  # the log has it; whoever ordered the load may be gone

    async def start(self) -> ServedModel | None:
        """Load the model the server is to start with.

        Raises:
            QuireError: it cannot be loaded.
        """
        name = self._catalogue.start
        return None if name is None else await self.load(name, {})

    async def unload(self, *, force: bool) -> None:
        """As `ModelSwitch.unload`."""
        await self._switch.unload(force=force)

    def cancel(self) -> str | None:
        """As `ModelSwitch.cancel`."""
        return self._switch.cancel()

    async def given_up(self) -> str:
        """As `ModelSwitch.given_up`."""
        return await self._switch.given_up()

    async def close(self) -> None:
        """End everything; as `ModelSwitch.close`."""
        self.grammars.close()
        await self._switch.close()

    def run_already(self, name: str, engine: EngineClient, text: ModelText) -> None:
        """Take over a running engine, which whoever started it looks after."""
        self._switch.adopt(name, engine)
        self._models[name].adopt(text)

    def _declaration(self, name: str) -> DeclaredModel:
        known = self._models.get(name)
        if known is not None:
            return DeclaredModel(known.names, known.configure)
        found = None if self._catalogue.below is None else self._catalogue.below(name)
        if found is None:
            raise ModelNotFoundError(name, tuple(self._models))
        return found

    def _add(self, declared: DeclaredModel, config: EngineConfig) -> ServedModel:
        self._switch.declare(declared.names[0], config)
        model = ServedModel(declared, self._switch, Metrics(self.families, declared.names[0]))
        self._models.update(dict.fromkeys(declared.names, model))
        return model


def around(
    engine: EngineClient, text: ModelText, config: ServerConfig, engine_config: EngineConfig | None = None
) -> Models:
    """The models of a server that serves one engine, which runs already.

    Args:
        engine: what generates.
        text: its text side.
        config: settings of the HTTP side.
        engine_config: those of the engine, where they are of interest.
    """
    info = engine.model
    names = tuple(dict.fromkeys(config.served_model_name)) or (info.name,)
    settings = engine_config or EngineConfig(
        info.path,
        info.name,
        max_queued_requests=info.max_queued_requests,
        max_queued_tokens=info.max_queued_tokens,
    )
    catalogue = Catalogue((DeclaredModel(names, lambda _: settings),), names[0])
    models = Models(catalogue, _cannot_start, config)
    models.run_already(names[0], engine, text)
    return models


async def _cannot_start(
    config: EngineConfig,  # noqa: ARG001
    *,
    on_progress: Listener,  # noqa: ARG001
    when_checked: Callable[[], Awaitable[None]],  # noqa: ARG001
    room_to_come: int,  # noqa: ARG001
) -> Engine:
    raise ConfigError("This server was made for one engine and cannot start another.")
