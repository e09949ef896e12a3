"""Command lines: argparse, with a flag for every setting and suggestions for misspelt ones."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from engine.errors import ConfigError
from quire.settings import COMMAND_LINE, Setting, Source, settings_of
from quire.suggestions import did_you_mean


class ArgumentParser(argparse.ArgumentParser):
    """Raises what argparse would print, and does not guess at abbreviated flags."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line.

        Raises:
            ConfigError: it is not one this parser knows.
        """
        known, unknown = self.parse_known_args(list(arguments))
        if not unknown:
            return known
        word = unknown[0].partition("=")[0]
        if word.startswith("-"):
            # argparse has no public list of its flags
            hint = did_you_mean(word, self._option_string_actions)
            raise ConfigError(f"Unknown option {word}.{hint} See {self.prog} --help.")
        raise ConfigError(f"Unexpected argument '{word}'. See {self.prog} --help.")


def add_settings(parser: argparse.ArgumentParser, config: type, title: str, leave_out: Collection[str] = ()) -> None:
    """Give the parser a flag for every setting of a configuration class, except those named in `leave_out`."""
    group = parser.add_argument_group(title)
    for setting in settings_of(config):
        if setting.name not in leave_out:
            _add_flag(group, setting)


def from_command_line(arguments: argparse.Namespace) -> Source:
    """The settings that were given as flags. Other values in the namespace do no harm."""
    return Source(COMMAND_LINE, vars(arguments), lambda setting: setting.flag)


def _add_flag(group: argparse._ArgumentGroup, setting: Setting) -> None:
    # values stay text here: quire/settings.py converts them, wherever they come from, with the same messages
    options: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS, "help": _help(setting)}
    if setting.kind is bool:
        group.add_argument(setting.flag, action=argparse.BooleanOptionalAction, **options)
    elif get_origin(setting.kind) is tuple:
        metavar = _metavar(get_args(setting.kind)[0])
        group.add_argument(setting.flag, action="append", metavar=f"{metavar}[,{metavar}]", **options)
    else:
        group.add_argument(setting.flag, metavar=_metavar(setting.kind), **options)


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "{" + ",".join(get_args(kind)) + "}"
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


def _help(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    elif isinstance(default, bool):
        default = "on" if default else "off"
    shown = f" (default: {default})" if default not in ("", None) else ""
    return (setting.doc + shown).replace("%", "%%")
