"""The process that tries grammars: `python -m engine.grammar_process FD LEVEL FORM`, started by `grammar_checker.py`.

A process, because nothing else can be stopped: neither a thread that compiles for ever nor the memory it takes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys

from engine.child_process import end_with_parent
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_trial import try_grammar
from engine.errors import InvalidRequestError
from engine.grammar_messages import GrammarVerdict, Vocabulary
from engine.logs import LogSettings, configure_logging
from engine.text.token_bytes import TokenBytes
from engine.transport import Channel, ChannelClosedError
from engine.types import GrammarKind, GrammarSpec

NICENESS = 10
"""How far it gives way to the engine, whose answers are under way."""

MOST_BYTES = 1 << 30
"""Memory that grammars may take beside the vocabulary."""


def serve(channel: Channel) -> None:
    """Answer every grammar with a verdict, until the parent is gone."""
    vocabulary: Vocabulary = channel.receive()
    compiler = GrammarCompiler(TokenBytes(vocabulary.tokens, vocabulary.special), vocabulary.end_token_ids)
    compiler.compile(GrammarSpec(GrammarKind.JSON_OBJECT))  # which prepares the vocabulary
    _limit_memory()
    channel.send(GrammarVerdict(None))
    while True:
        spec: GrammarSpec = channel.receive()
        try:
            try_grammar(compiler.compile(spec), len(vocabulary.tokens), vocabulary.end_token_ids)
        except InvalidRequestError as error:
            channel.send(GrammarVerdict(error.message))
        else:
            channel.send(GrammarVerdict(None))


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_BYTES, taken + MOST_BYTES))


if __name__ == "__main__":
    configure_logging(LogSettings(*sys.argv[2:]))
    os.nice(NICENESS)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        end_with_parent(connection)
        with contextlib.suppress(ChannelClosedError):
            serve(Channel(connection))
