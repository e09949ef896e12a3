"""Which configuration classes the commands share, and the places their values come from."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine.config import EngineConfig
from quire.arguments import ArgumentParser, add_settings, from_command_line
from quire.config_file import MODELS, ConfigFile, read_config_file
from quire.hub import HubConfig, ModelSource, find_model, find_outline
from quire.settings import Source, from_environment, resolve, settings_of
from server.config import ServerConfig

TABLES: dict[str, type] = {"engine": EngineConfig, "server": ServerConfig, "hub": HubConfig}
"""Tables of the configuration file."""


def add_model_options(parser: ArgumentParser, engine: Sequence[str] | None = None) -> None:
    """Flags of every command that reads a model.

    Args:
        parser: of the command.
        engine: engine settings that make a difference to it; None for all.
    """
    tables = ", ".join(f"[{name}]" for name in (*TABLES, f"{MODELS}.NAME"))
    parser.add_argument("--config", metavar="FILE", help=f"configuration file in TOML; its tables: {tables}")
    add_settings(parser, HubConfig, "hub")
    others = {each.name for each in settings_of(EngineConfig)}.difference(engine) if engine else set()
    add_settings(parser, EngineConfig, "engine", leave_out={"model", *others})


def add_server_options(parser: ArgumentParser) -> None:
    """Everything `quire serve` can be told: the model, and a flag for every setting."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        default=argparse.SUPPRESS,
        help="model directory, hub id (org/name), or name of a model in the configuration file; without one, and "
        "without models there, the demo model that comes with Quire",
    )
    add_settings(parser, ServerConfig, "server")
    add_model_options(parser)


def sources_of(arguments: argparse.Namespace) -> list[Source]:
    """Where settings come from, the winner first: command line, environment, configuration file.

    Raises:
        ConfigError: the environment or the file has something that is no setting.
    """
    sources = [from_command_line(arguments), from_environment(list(TABLES.values()), os.environ)]
    if arguments.config is not None:
        sources.append(_file(arguments.config).source)
    return sources


def model_tables(arguments: argparse.Namespace) -> Mapping[str, Source]:
    """What the configuration file says about each model it declares, by name.

    Raises:
        ConfigError: the file has something that is no setting.
    """
    return {} if arguments.config is None else _file(arguments.config).models


def _file(path: str) -> ConfigFile:
    return read_config_file(Path(path), TABLES, of_models=(EngineConfig, HubConfig))


def local_engine(arguments: argparse.Namespace) -> EngineConfig:
    """Engine settings of a command for the model it names, which is fetched first where it is a hub id.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError, HubError: there is no such model.
    """
    config, revision = _model_of(arguments)
    return _placed(config, find_model(config.model, revision))


@contextmanager
def outlined_engine(arguments: argparse.Namespace) -> Iterator[EngineConfig]:
    """As `local_engine`, for a command that only asks how large the model is: of one on the hub no weights are fetched.

    Raises:
        ConfigError, CheckpointError, HubError: as `local_engine`.
    """
    config, revision = _model_of(arguments)
    with find_outline(config.model, revision) as source:
        yield _placed(config, source)


def _model_of(arguments: argparse.Namespace) -> tuple[EngineConfig, str]:
    sources = sources_of(arguments)
    return resolve(EngineConfig, sources).config, resolve(HubConfig, sources).config.revision


def _placed(config: EngineConfig, source: ModelSource) -> EngineConfig:
    return replace(config, model=str(source.directory), name=config.name or source.name)
