"""`quire chat`"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.errors import ConfigError, TokenizerError
from engine.text.chat_template import load_chat_template
from quire.answers import Talker
from quire.arguments import ArgumentParser, add_settings
from quire.configuration import add_model_options, local_engine, sources_of
from quire.conversation import Conversation
from quire.local_model import open_local_model
from quire.remote_model import ClientConfig, open_remote_model
from quire.sampling_flags import add_sampling_options, given_sampling
from quire.settings import resolve
from quire.terminal import notify, show, show_aside


def run(arguments: Sequence[str]) -> int:
    """Converse with a model on the terminal."""
    parsed = _parser().parse(arguments)
    if (parsed.url is None) == ("model" not in parsed):
        raise ConfigError("Name either a model to load or, with --url, a server to talk to. See quire chat --help.")
    with _talker(parsed) as talker:
        Conversation(talker, parsed.system, show=show, aside=show_aside, notify=notify).run(_reader())
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("quire chat", "Talk to a model.")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", default=argparse.SUPPRESS, help="model directory or hub id (org/name)"
    )
    remote = parser.add_argument_group("a server instead of a model loaded here")
    remote.add_argument("--url", help="of any OpenAI-compatible server, e.g. http://127.0.0.1:8000")
    remote.add_argument(
        "--model", dest="remote_model", default="", metavar="NAME", help="its model; default: its first"
    )
    add_settings(parser, ClientConfig, "access to that server")
    parser.add_argument("--system", default="", metavar="TEXT", help="system message")
    add_sampling_options(parser)
    add_model_options(parser)
    return parser


@contextlib.contextmanager
def _talker(parsed: argparse.Namespace) -> Iterator[Talker]:
    sampling = given_sampling(parsed)
    if parsed.url is None:
        config = local_engine(parsed)
        if load_chat_template(Path(config.model)) is None:
            raise TokenizerError(f"{config.model} has no chat template, so it cannot chat; try quire generate.")
        with open_local_model(config, sampling) as model:
            yield model
    else:
        key = next(iter(resolve(ClientConfig, sources_of(parsed)).config.api_key), "")
        with open_remote_model(parsed.url, parsed.remote_model, key, sampling) as remote:
            yield remote


def _reader() -> Callable[[], str]:
    """What reads a line: with history and editing on a terminal, where the `readline` module is there."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not sys.stdin.isatty():
        return input
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")
    return _ask


def _ask() -> str:
    try:
        return input("> ")
    except EOFError:
        print()  # or the shell's prompt would stand behind ours
        raise
