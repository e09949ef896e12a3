"""The page of the documentation that lists every setting, made from the classes that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from quire.settings import Setting, settings_of

INTRODUCTION = """# Settings

<!-- Written by `quire config docs > docs/configuration.md`; do not edit. -->

Each setting can be given on the command line, in the environment, or in the file named by `--config`, under its table
and name; the first of these that has it wins. [The command line](cli.md) says how values are written.
`quire config show --resolved` shows the value of each and where it comes from.

The file may also declare models, which requests can then name: a table `[models.NAME]` each, with `model` (directory
or hub id), `revision` and any other setting of `[engine]` but `name`. What is set there wins over `[engine]` in the
file, and over nothing else. [Several models](deployment.md#several-models) has an example.
"""


POSITIONAL = "model"
"""The setting that stands on the command line without a flag."""


def configuration_page(tables: Mapping[str, type]) -> str:
    """The page in Markdown.

    Args:
        tables: configuration class of each table of the configuration file.
    """
    return "\n".join([INTRODUCTION, *(_table(title, config) for title, config in tables.items())])


def _table(title: str, config: type) -> str:
    rows = [_row(setting) for setting in settings_of(config)]
    head = [
        f"## [{title}]",
        "",
        "| setting | command line, environment | values | default | meaning |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _row(setting: Setting) -> str:
    flag = "MODEL" if setting.name == POSITIONAL else f"`{setting.flag}`"
    if setting.kind is bool:
        flag += f", `--no{setting.flag[1:]}`"
    cells = [f"`{setting.name}`", f"{flag}, `{setting.variable}`", _values(setting.kind), _default(setting.default)]
    return "| " + " | ".join([*cells, setting.doc.replace("|", "\\|")]) + " |"


def _values(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of texts"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}[kind]


def _default(value: object) -> str:
    if value in ("", (), None):
        return "none"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"
