"""The models a server is told of, before any is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import ConfigError

Configure = Callable[[Mapping[str, object]], EngineConfig]


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """A model that may be loaded.

    Attributes:
        names: that requests may use, the first one shown in answers.
        configure: the settings it is loaded with, where those it is given win over all others. Raises `ConfigError`.
    """

    names: tuple[str, ...]
    configure: Configure


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of them.

    Attributes:
        models: with names that occur once.
        start: name of the one to load when the server starts; None loads none.
        below: the model at a path below the folder that may be loaded from, if there is one; None where there is no
            such folder.
    """

    models: tuple[DeclaredModel, ...]
    start: str | None = None
    below: Callable[[str], DeclaredModel | None] | None = None


def only(config: EngineConfig, names: Sequence[str] = ()) -> Catalogue:
    """A catalogue of one model with fixed settings, which is loaded at the start."""

    def configure(settings: Mapping[str, object]) -> EngineConfig:
        if settings:
            raise ConfigError("The settings of this model are fixed.")
        return config

    names = tuple(dict.fromkeys(names)) or (config.name or Path(config.model).name,)
    return Catalogue((DeclaredModel(names, configure),), names[0])
