"""Filling a frozen configuration dataclass from several places, one of which wins.

A configuration class (`EngineConfig`, `ServerConfig`, ...) holds names, types, defaults and documentation of its
settings. Here is everything that is the same for all of them: which form a setting has on the command line, in the
environment and in a file, how text becomes a value, and which place wins. Nothing in this file knows any setting.
"""

from __future__ import annotations

import contextlib
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import ConfigError
from quire.suggestions import did_you_mean

C = TypeVar("C")

ENVIRONMENT_PREFIX = "QUIRE_"
DEFAULT = "default"
COMMAND_LINE = "command line"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a configuration class.

    Attributes:
        name: of the field.
        kind: its type, without None.
        default: its default value.
        doc: what it means.
    """

    name: str
    kind: Any
    default: Any
    doc: str

    @property
    def flag(self) -> str:
        """`--max-num-seqs`"""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """`QUIRE_MAX_NUM_SEQS`"""
        return ENVIRONMENT_PREFIX + self.name.upper()


@dataclass(frozen=True, slots=True)
class Source:
    """One place settings come from.

    Attributes:
        origin: how to call it, e.g. `command line`.
        values: what it says: text, or values of the right type already (from a TOML file).
        spell: how it writes the name of a setting, for messages.
        is_file: whether it is the configuration file.
    """

    origin: str
    values: Mapping[str, object]
    spell: Callable[[Setting], str]
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Resolved(Generic[C]):
    """A filled configuration, and where each value came from."""

    config: C
    origins: Mapping[str, str]


def settings_of(config: type) -> tuple[Setting, ...]:
    """The settings of a configuration class, in order."""
    hints = get_type_hints(config)
    return tuple(
        Setting(each.name, _without_none(hints[each.name]), _default(each), each.metadata["doc"])
        for each in fields(config)
    )


def resolve(config: type[C], sources: Sequence[Source]) -> Resolved[C]:
    """Fill `config`; of several sources that know a setting, the first one wins.

    Raises:
        ConfigError: a value has the wrong type or is out of range; the message names the setting as its source does.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in settings_of(config):
        origins[setting.name] = DEFAULT
        for source in sources:
            if setting.name in source.values:
                values[setting.name] = convert(source.values[setting.name], setting.kind, source.spell(setting))
                origins[setting.name] = source.origin
                break
    return Resolved(config(**values), origins)


def from_environment(configs: Sequence[type], environment: Mapping[str, str]) -> Source:
    """`QUIRE_<NAME>` for every setting of these classes.

    Raises:
        ConfigError: a variable with our prefix is no setting.
    """
    names = {setting.variable: setting.name for config in configs for setting in settings_of(config)}
    values: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or _set_by_kubernetes(variable, value):
            continue
        if variable not in names:
            raise ConfigError(f"The environment sets {variable}, which is no setting.{did_you_mean(variable, names)}")
        values[names[variable]] = value
    return Source("environment", values, lambda setting: setting.variable)


def _set_by_kubernetes(variable: str, value: str) -> bool:
    """Next to a service called `quire`, Kubernetes sets QUIRE_PORT=tcp://…, QUIRE_SERVICE_HOST and the like."""
    if variable == f"{ENVIRONMENT_PREFIX}PORT":
        return value.startswith(("tcp://", "udp://"))
    return re.match(rf"{ENVIRONMENT_PREFIX}(SERVICE_|PORT_\d)", variable) is not None


def convert(value: object, kind: Any, name: str) -> Any:
    """`value` as a `kind`.

    Text is read as people write such values; what has a type already must have the right one.

    Args:
        value: from the command line or the environment (str, or a list of them), or from a TOML file.
        kind: str, int, float, bool, Path, a Literal of strings, or a tuple of any number of these.
        name: what to call it in errors.

    Raises:
        ConfigError: it is none.
    """
    if get_origin(kind) is Literal:
        return _choice(value, get_args(kind), name)
    if get_origin(kind) is tuple:
        element, _ = get_args(kind)
        parts = _parts(value, name)
        return tuple(convert(part, element, name) for part in parts)
    readers: dict[Any, Callable[[object, str], Any]] = {
        str: _string,
        int: _integer,
        float: _number,
        bool: _boolean,
        Path: _path,
    }
    return readers[kind](value, name)


def _string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {value!r}.")
    return value


def _path(value: object, name: str) -> Path:
    text = _string(value, name)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{name} is {text}, but there is no such user.") from None


def _integer(value: object, name: str) -> int:
    if isinstance(value, str):
        try:
            return int(value.replace("_", ""))
        except ValueError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be a whole number, not {value!r}.")


def _number(value: object, name: str) -> float:
    number = math.nan
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise ConfigError(f"{name} must be a finite number, not {value!r}.")
    return number


def _boolean(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigError(f"{name} must be true or false, not {value!r}.")


def _choice(value: object, choices: Sequence[str], name: str) -> str:
    if value in choices:
        return str(value)
    raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}.{did_you_mean(str(value), choices)}")


def _parts(value: object, name: str) -> list[object]:
    """Text is a list with commas in between; a list holds such texts (a flag given several times), or numbers."""
    parts: list[object] = []
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, int | float) and not isinstance(each, bool):
            parts.append(each)
        else:
            parts += [part.strip() for part in _string(each, name).split(",") if part.strip()]
    return parts


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise TypeError(f"setting {field.name} has no default")


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (kind,) = (each for each in get_args(hint) if each is not type(None))
    return kind
