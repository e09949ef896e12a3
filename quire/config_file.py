"""The configuration file: TOML, one table per configuration class, and one for each declared model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from quire.settings import Source, settings_of
from quire.suggestions import did_you_mean

MODELS = "models"
"""The table that holds a table for each declared model."""

NAME = "name"
"""The setting that the table of a model cannot have, since its title says it."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file.

    Attributes:
        source: the settings outside of the tables of models.
        models: the tables of models, by name.
    """

    source: Source
    models: Mapping[str, Source]


def read_config_file(path: Path, tables: Mapping[str, type], of_models: Sequence[type]) -> ConfigFile:
    """Read a configuration file.

    Args:
        path: of the file.
        tables: configuration class of each table that may occur.
        of_models: classes whose settings the table of a model may have.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or has an unknown table or key.
    """
    content = _read(path)
    models = content.pop(MODELS, {})
    values: dict[str, object] = {}
    table_of: dict[str, str] = {}
    for table, config in tables.items():
        table_of.update({setting.name: table for setting in settings_of(config)})
    for table, entries in content.items():
        if table not in tables:
            raise ConfigError(f"{path}: {_unknown_entry(table, entries, tables, table_of)}")
        known = {setting.name for setting in settings_of(tables[table])}
        values |= _checked(path, table, entries, known, table_of)
    source = Source(
        str(path), values, lambda setting: f"{path}: [{table_of[setting.name]}] {setting.name}", is_file=True
    )
    return ConfigFile(source, _model_tables(path, models, of_models))


def _model_tables(path: Path, models: object, of_models: Sequence[type]) -> dict[str, Source]:
    if not isinstance(models, dict) or not all(isinstance(each, dict) for each in models.values()):
        raise ConfigError(
            f"{path}: {MODELS} holds one table for each model: write [{MODELS}.NAME] on a line of its own."
        )
    known = {setting.name for config in of_models for setting in settings_of(config)} - {NAME}
    return {name: _model_table(path, name, entries, known) for name, entries in models.items()}


def _model_table(path: Path, name: str, entries: Any, known: set[str]) -> Source:
    title = f"{MODELS}.{name}"
    if NAME in entries:
        raise ConfigError(f"{path}: [{title}] is the name of the model; leave '{NAME}' out.")
    values = _checked(path, title, entries, known, {})
    if not values.get("model"):
        raise ConfigError(f'{path}: [{title}] must say which model it is: model = "DIRECTORY or hub id".')
    return Source(f"{path} [{title}]", values, lambda setting: f"{path}: [{title}] {setting.name}", is_file=True)


def _checked(path: Path, table: str, entries: Any, known: set[str], table_of: Mapping[str, str]) -> dict[str, object]:
    """The entries of a table, all of them known."""
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: {table} must be a table: write [{table}] on a line of its own.")
    for key in entries:
        if key not in known:
            raise ConfigError(f"{path}: [{table}] has no setting '{key}'.{_hint(key, known, table_of)}")
    return dict(entries)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"The configuration file {path} cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The configuration file {path} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {problem}.") from None


def _unknown_entry(name: str, value: object, tables: Mapping[str, type], table_of: Mapping[str, str]) -> str:
    if isinstance(value, dict):
        known = ", ".join(f"[{each}]" for each in (*tables, f"{MODELS}.NAME"))
        return f"there is no table [{name}]; the tables are {known}.{did_you_mean(name, tables)}"
    return f"'{name}' stands outside of a table.{_hint(name, table_of, table_of)}"


def _hint(key: str, known: Any, table_of: Mapping[str, str]) -> str:
    if key in table_of:
        return f" It belongs into [{table_of[key]}]."
    return did_you_mean(key, known) or did_you_mean(key, table_of)
