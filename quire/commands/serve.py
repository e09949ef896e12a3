"""`quire serve`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from engine.config import EngineConfig
from quire import demo_model
from quire.arguments import ArgumentParser, add_settings
from quire.configuration import add_model_options, sources_of
from quire.hub import HubConfig, ModelSource, find_model
from quire.settings import Resolved, resolve
from server.config import ServerConfig
from server.main import run as run_server


def run(arguments: Sequence[str]) -> int:
    """Serve a model until interrupted."""
    parsed = _parser().parse(arguments)
    sources = sources_of(parsed)
    engine = resolve(EngineConfig, sources)
    server = resolve(ServerConfig, sources)
    hub = resolve(HubConfig, sources)
    if parsed.show_config:
        _show([("engine", engine), ("server", server), ("hub", hub)])
        return 0
    source = _source(engine.config.model, hub.config.revision)
    return run_server(
        server.config,
        replace(engine.config, model=str(source.directory), name=engine.config.name or source.name),
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire serve",
        "Serve a model over an OpenAI-compatible HTTP API. Every option can also be set in the environment "
        "(QUIRE_MAX_NUM_SEQS for --max-num-seqs) and in the configuration file; the command line wins over the "
        "environment, which wins over the file.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        default=argparse.SUPPRESS,
        help="model directory or hub id (org/name); without one, the demo model that comes with Quire",
    )
    parser.add_argument("--show-config", action="store_true", help="show each setting and where it is set, and end")
    add_settings(parser, ServerConfig, "server")
    add_model_options(parser)
    return parser


def _source(model: str, revision: str) -> ModelSource:
    if model:
        return find_model(model, revision)
    return ModelSource(demo_model.demo_model(), demo_model.NAME)


def _show(tables: Sequence[tuple[str, Resolved[Any]]]) -> None:
    for title, resolved in tables:
        print(f"[{title}]")
        for each in fields(resolved.config):
            print(f"{each.name} = {_shown(each.name, each.repr, resolved.config)}  # {resolved.origins[each.name]}")


def _shown(name: str, public: bool, config: Any) -> str:
    value = getattr(config, name)
    if not public and value:
        return "(hidden)"
    if isinstance(value, tuple):
        return repr(list(value))
    return str(value).lower() if isinstance(value, bool) else repr(value)
