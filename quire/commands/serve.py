"""`quire serve`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.config import EngineConfig
from engine.errors import ConfigError
from quire import demo_model
from quire.arguments import ArgumentParser
from quire.configuration import add_server_options, sources_of
from quire.hub import HubConfig, ModelSource, find_model
from quire.settings import resolve
from server.config import ServerConfig
from server.main import run as run_server


def run(arguments: Sequence[str]) -> int:
    """Serve a model until interrupted."""
    parsed = _parser().parse(arguments)
    if getattr(parsed, "model", None) == "":
        raise ConfigError("MODEL is empty, as it is where a variable is not set. Leave it out for the demo model.")
    sources = sources_of(parsed)
    engine = resolve(EngineConfig, sources)
    server = resolve(ServerConfig, sources)
    hub = resolve(HubConfig, sources)
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
    add_server_options(parser)
    return parser


def _source(model: str, revision: str) -> ModelSource:
    if model:
        return find_model(model, revision)
    return ModelSource(demo_model.demo_model(), demo_model.NAME)
