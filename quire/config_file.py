"""The configuration file: TOML, one table per configuration class."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from quire.settings import Source, settings_of
from quire.suggestions import did_you_mean


def from_file(path: Path, tables: Mapping[str, type]) -> Source:
    """Read a configuration file.

    Args:
        path: of the file.
        tables: configuration class of each table that may occur.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or has an unknown table or key.
    """
    content = _read(path)
    values: dict[str, object] = {}
    table_of: dict[str, str] = {}
    for table, config in tables.items():
        table_of.update({setting.name: table for setting in settings_of(config)})
    for table, entries in content.items():
        if table not in tables:
            raise ConfigError(f"{path}: {_unknown_entry(table, entries, tables, table_of)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {table} must be a table: write [{table}] on a line of its own.")
        known = {setting.name for setting in settings_of(tables[table])}
        for key, value in entries.items():
            if key not in known:
                raise ConfigError(f"{path}: [{table}] has no setting '{key}'.{_hint(key, known, table_of)}")
            values[key] = value
    return Source(str(path), values, lambda setting: f"{path}: [{table_of[setting.name]}] {setting.name}")


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
        known = ", ".join(f"[{each}]" for each in tables)
        return f"there is no table [{name}]; the tables are {known}.{did_you_mean(name, tables)}"
    return f"'{name}' stands outside of a table.{_hint(name, table_of, table_of)}"


def _hint(key: str, known: Any, table_of: Mapping[str, str]) -> str:
    if key in table_of:
        return f" It belongs into [{table_of[key]}]."
    return did_you_mean(key, known) or did_you_mean(key, table_of)
