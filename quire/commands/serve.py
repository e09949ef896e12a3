"""`quire serve`"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ConfigError
from quire.arguments import ArgumentParser
from quire.catalogue import catalogue_of
from quire.configuration import add_server_options, sources_of
from quire.settings import resolve
from server.config import ServerConfig
from server.main import run as run_server


def run(arguments: Sequence[str]) -> int:
    """Serve a model until interrupted."""
    parsed = _parser().parse(arguments)
    if getattr(parsed, "model", None) == "":
        raise ConfigError("MODEL is empty, as it is where a variable is not set. Leave it out for the demo model.")
    server = resolve(ServerConfig, sources_of(parsed)).config
    return run_server(server, catalogue_of(parsed, server))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire serve",
        "Serve a model over an OpenAI-compatible HTTP API. Every option can also be set in the environment "
        "(QUIRE_MAX_NUM_SEQS for --max-num-seqs) and in the configuration file; the command line wins over the "
        "environment, which wins over the file.",
    )
    add_server_options(parser)
    return parser
