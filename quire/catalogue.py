"""The models `quire serve` is told of, on the command line and in the configuration file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import ConfigError, HubError, QuireError
from quire import demo_model
from quire.config_file import MODELS
from quire.configuration import model_tables, sources_of
from quire.hub import HubConfig, ModelSource, find_model
from quire.settings import Resolved, Source, resolve, settings_of
from quire.suggestions import did_you_mean
from server.config import ServerConfig
from server.models.catalogue import Catalogue, DeclaredModel

OF_ONE_MODEL = frozenset({"model", "name", "revision"})
"""Settings that say which model it is, so that those of one say nothing about another."""


def catalogue_of(arguments: argparse.Namespace, server: ServerConfig) -> Catalogue:
    """Every model, fetched first where it is a hub id.

    Args:
        arguments: of the command line.
        server: settings of the HTTP side.

    Raises:
        ConfigError: a setting is wrong, or a name occurs twice.
        CheckpointError, HubError: there is no such model.
    """
    sources, tables = sources_of(arguments), model_tables(arguments)
    engine = resolve(EngineConfig, sources).config
    shared = [without(source, OF_ONE_MODEL) for source in sources]
    declared = {name: _declared(name, table, shared) for name, table in tables.items()}
    names = tuple(dict.fromkeys(server.served_model_name))
    start: str | None = None
    if engine.model in declared:
        model = declared.pop(engine.model)
        declared = {engine.model: replace(model, names=tuple(dict.fromkeys((*names, *model.names)))), **declared}
        start = (*names, engine.model)[0]
    elif engine.model or not (tables or server.model_dir):
        found = _find(engine.model, resolve(HubConfig, sources).config.revision)
        name = engine.name or found.name
        start = (*names, name)[0]
        declared = {"": DeclaredModel(names or (name,), _Configure(found.directory, name, sources)), **declared}
    elif names:
        raise ConfigError("served_model_name names the model that is loaded at the start, and there is none. Name one.")
    _check_names(declared.values())
    below = _Below(Path(server.model_dir).expanduser(), shared) if server.model_dir else None
    return Catalogue(tuple(declared.values()), start, below)


def resolved_models(arguments: argparse.Namespace) -> dict[str, Resolved[EngineConfig]]:
    """Settings of the models in the file, each with the place it comes from."""
    shared = [without(source, OF_ONE_MODEL) for source in sources_of(arguments)]
    return {name: resolve(EngineConfig, ranked(table, shared)) for name, table in model_tables(arguments).items()}


def ranked(table: Source, shared: Sequence[Source]) -> list[Source]:
    """Where the settings of a model in the file come from, the winner first: its table wins over the others there."""
    return [*(source for source in shared if not source.is_file), table, *(s for s in shared if s.is_file)]


def without(source: Source, names: frozenset[str]) -> Source:
    """A source that does not know these settings."""
    return replace(source, values={name: value for name, value in source.values.items() if name not in names})


def _declared(name: str, table: Source, shared: Sequence[Source]) -> DeclaredModel:
    sources = ranked(table, shared)
    revision = resolve(HubConfig, [table]).config.revision
    try:
        found = find_model(resolve(EngineConfig, sources).config.model, revision)
    except QuireError as error:
        raise (HubError if isinstance(error, HubError) else ConfigError)(f"[{MODELS}.{name}]: {error}") from None
    return DeclaredModel((name,), _Configure(found.directory, name, sources))


@dataclass(frozen=True, slots=True)
class _Configure:
    """The settings of one model; those it is called with win over all others."""

    directory: Path
    name: str
    sources: Sequence[Source]

    def __call__(self, settings: Mapping[str, object]) -> EngineConfig:
        known = {each.name for each in settings_of(EngineConfig)} - OF_ONE_MODEL
        for setting in settings:
            if setting not in known:
                raise ConfigError(f"'settings.{setting}' is no setting of a model.{did_you_mean(setting, known)}")
        request = Source("request", settings, lambda setting: f"'settings.{setting.name}'")
        config = resolve(EngineConfig, [request, *self.sources]).config
        return replace(config, model=str(self.directory), name=self.name)


@dataclass(frozen=True, slots=True)
class _Below:
    """The models below a folder, by their paths in it. What leads out of the folder is not there.

    Every model has one name: `./x` is not another for `x`, since that would be loaded in place of `x`, and counted and
    listed beside it.
    """

    folder: Path
    sources: Sequence[Source]

    def __call__(self, name: str) -> DeclaredModel | None:
        root = self.folder.resolve()
        try:
            directory = (root / name).resolve()
            plain = name == os.path.normpath(name) and not os.path.isabs(name)
            below = directory != root and directory.is_relative_to(root)
            there = plain and below and (directory / "config.json").is_file()
        except (OSError, ValueError):  # a name too long, or with a null character
            there = False
        return DeclaredModel((name,), _Configure(directory, name, self.sources)) if there else None


def _find(model: str, revision: str) -> ModelSource:
    if model:
        return find_model(model, revision)
    return ModelSource(demo_model.demo_model(), demo_model.NAME)


def _check_names(models: Iterable[DeclaredModel]) -> None:
    seen: set[str] = set()
    for model in models:
        for name in model.names:
            if name in seen:
                raise ConfigError(f"Two models are called '{name}'. Give one another name with --served-model-name.")
            seen.add(name)
