"""`quire config`"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from quire.arguments import ArgumentParser
from quire.catalogue import resolved_models
from quire.config_file import MODELS
from quire.configuration import TABLES, add_server_options, sources_of
from quire.configuration_page import configuration_page
from quire.settings import DEFAULT, Resolved, resolve
from quire.terminal import notify


def run(arguments: Sequence[str]) -> int:
    """Show what `quire serve` would run with, or document what there is to set."""
    actions: dict[str, Callable[[Sequence[str]], int]] = {"show": _show, "docs": _docs}
    parser = ArgumentParser("quire config", "Show what quire serve would run with, or what there is to set.")
    parser.add_argument("action", choices=actions, help="each has a --help of its own")
    parser.parse(arguments[:1])
    return actions[arguments[0]](arguments[1:])


def _show(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        "quire config show",
        "Show the settings quire serve would have with the same options, environment and configuration file, each with "
        "the place it comes from, in the form of a configuration file. Secrets are hidden.",
    )
    parser.add_argument("--resolved", action="store_true", help="show the settings left at their defaults too")
    add_server_options(parser)
    parsed = parser.parse(arguments)
    sources = sources_of(parsed)
    tables: dict[str, type[Any]] = TABLES
    resolved = {title: resolve(config, sources) for title, config in tables.items()}
    lines = [line for title, table in resolved.items() for line in _lines(title, table, everything=parsed.resolved)]
    for name, model in resolved_models(parsed).items():
        lines += _lines(f"{MODELS}.{json.dumps(name)}", model, everything=parsed.resolved)
    if lines:
        print("\n".join(lines))
    else:
        notify("every setting has its default; quire config show --resolved shows them")
    return 0


def _lines(title: str, table: Resolved[Any], *, everything: bool) -> list[str]:
    lines = [
        f"{each.name} = {_shown(getattr(table.config, each.name), secret=not each.repr)}  # {table.origins[each.name]}"
        for each in fields(table.config)
        if everything or table.origins[each.name] != DEFAULT
    ]
    return [f"[{title}]", *lines] if lines else []


def _shown(value: object, *, secret: bool) -> str:
    """A value as TOML has it."""
    if secret and value:
        return '"(hidden)"'
    # ASCII, or a value could say something else to a terminal than it is
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _docs(arguments: Sequence[str]) -> int:
    ArgumentParser("quire config docs", "Write docs/configuration.md to standard output.").parse(arguments)
    print(configuration_page(TABLES), end="")
    return 0
