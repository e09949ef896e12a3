"""Typed reading of a model's JSON files, with errors that name the file and the key."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, UnsupportedModelError
from engine.model_files import read_json_object

LARGEST = sys.float_info.max


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a model directory must have.

    Raises:
        CheckpointError: the file is missing, unreadable, not JSON, or something other than an object.
    """
    values = read_json_object(path, CheckpointError)
    if values is None:
        raise CheckpointError(f"{path} does not exist; a model directory needs it.")
    return values


def _describe(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


class ConfigReader:
    """A JSON object that remembers which of its keys were read, so that nothing in it is passed over unnoticed.

    A key that is null counts as absent, and so does one whose name is in `ignored`. All methods raise
    CheckpointError where the value has the wrong type or is out of range.

    Args:
        values: the object.
        path: file it stands in, for messages.
        ignored: keys to treat as absent; a key of an inner object is spelled `outer.inner`.
        prefix: what precedes the keys in messages and in `ignored`.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, ignored: Collection[str] = (), prefix: str = "") -> None:
        self.path = path
        self._ignored = frozenset(ignored)
        self._prefix = prefix
        self._values = {key: value for key, value in values.items() if prefix + key not in self._ignored}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether the key is there at all, null or not."""
        return key in self._values

    def get(self, key: str) -> Any:
        """The value whatever its type, None where it is absent; the caller checks it."""
        self._read.add(key)
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int | None = None) -> int:
        """A whole number from `minimum` to `maximum`; required where there is no default."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self._missing(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self.wrong(key, f"must be a whole number of at least {minimum}")
        if maximum is not None and value > maximum:
            raise self.wrong(key, f"must be at most {maximum}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; required where there is no default."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self._missing(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
            raise self.wrong(key, "must be a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def text(self, key: str) -> str | None:
        """A string, or None."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be a string")
        return value

    def section(self, key: str) -> ConfigReader | None:
        """An inner object, or None."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "must be an object")
        return ConfigReader(value, self.path, self._ignored, f"{self._prefix}{key}.")

    def wrong(self, key: str, rule: str) -> CheckpointError:
        """The error that says a key breaks a rule."""
        return CheckpointError(f"{self.path}: '{self._prefix}{key}' {rule}, not {_describe(self._values.get(key))}.")

    def unsupported(self, key: str, reason: str) -> UnsupportedModelError:
        """The error that says a key asks for something Quire cannot do, and how to go on all the same."""
        name = f"{self._prefix}{key}"
        return UnsupportedModelError(
            f"{self.path}: '{name}' is {_describe(self._values.get(key))}, {reason}. If the model gives the right "
            f"answers without it, pass --ignore-config-keys {name} (or name it in the setting ignore_config_keys)."
        )

    def refuse_unread(self, harmless: Collection[str] = ()) -> None:
        """Refuse what was not read, unless it is known to be harmless or switches nothing on.

        Raises:
            UnsupportedModelError: naming the first such key, its value, and how to accept it.
        """
        for key, value in self._values.items():
            switched_off = value is None or value is False or value in ([], {})
            if key not in self._read and key not in harmless and not switched_off:
                raise self.unsupported(
                    key, "a key that Quire does not know and that may change what the model computes"
                )

    def _missing(self, key: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: '{self._prefix}{key}' is missing.")
