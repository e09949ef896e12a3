"""From the first word of a command line to the command, and from errors to one line and an exit status."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple, Protocol

from engine.errors import ConfigError, QuireError
from quire.interruption import termination_as_success
from quire.suggestions import did_you_mean
from quire.terminal import notify
from quire.version import __version__


class Command(NamedTuple):
    """One command.

    Attributes:
        module: under `quire/commands/`, imported only when it runs.
        summary: what it does.
        serves: whether it runs until it is told to end, so that SIGTERM is its usual end from the first moment on.
    """

    module: str
    summary: str
    serves: bool = False


class CommandModule(Protocol):
    """What a command's module has."""

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command with the words behind its name; returns the exit status."""
        ...


COMMANDS = {
    "serve": Command("quire.commands.serve", "serve a model over an OpenAI-compatible HTTP API", serves=True),
    "generate": Command("quire.commands.generate", "continue a prompt"),
    "chat": Command("quire.commands.chat", "talk to a model, here or at a URL"),
    "quantize": Command("quire.commands.quantize", "make an EXL2 model directory"),
    "convert": Command("quire.commands.convert", "write a model as dense float16"),
    "eval": Command("quire.commands.eval", "measure perplexity, and divergence from a reference model"),
    "plan": Command("quire.commands.plan", "say what a model would take of the memory there is"),
    "replay": Command("quire.commands.replay", "send requests of a bug report again, and compare what becomes of them"),
    "config": Command("quire.commands.config", "show the settings a server would have, and where they come from"),
    "doctor": Command("quire.commands.doctor", "say what is wrong with this installation or a model"),
}


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; see `quire.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no reason to fail
    try:
        status = _run(arguments)
        sys.stdout.flush()  # so that a closed pipe shows here and not when the interpreter ends
        return status
    except QuireError as problem:
        notify(f"error: {' '.join(str(problem).split())}")
        return 2 if isinstance(problem, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered cannot be written either
        notify("error: There is no space left where the output goes.")
        return 1


def _run(arguments: Sequence[str]) -> int:
    if not arguments:
        print(_help(), file=sys.stderr)
        return 2
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version", "version"):
        print(f"quire {__version__}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise ConfigError(f"Unknown {what} '{name}'.{did_you_mean(name, COMMANDS)} See quire --help.")
    command = COMMANDS[name]
    with termination_as_success() if command.serves else nullcontext():  # importing takes a while
        module: CommandModule = importlib.import_module(command.module)
        return module.run(rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: quire COMMAND ...",
            "",
            "Serve and make EXL2-quantized language models.",
            "",
            "commands:",
            *lines,
            "",
            "quire COMMAND --help describes a command, quire --version shows the version.",
        ]
    )
