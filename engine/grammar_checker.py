"""Says whether a model can follow a grammar, before any of it is answered; a child process finds out."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable

from engine.child_process import start_child
from engine.errors import EngineDeadError, InvalidRequestError
from engine.grammar_messages import GrammarVerdict, Vocabulary
from engine.transport import Channel, ChannelClosedError
from engine.types import GrammarSpec

START_SECONDS = 120.0
"""What a process may take to start and to prepare the largest of vocabularies, on a busy machine."""


class GrammarChecker:
    """One child process, started when it is needed first and again after it had to be killed. For one thread at a time.

    Args:
        vocabulary: says what the tokens are; asked at each start.
        module: run as the child process.
    """

    def __init__(self, vocabulary: Callable[[], Vocabulary], module: str = "engine.grammar_process") -> None:
        self._vocabulary = vocabulary
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def check(self, spec: GrammarSpec, seconds: float) -> None:
        """Compile a grammar and begin some answers with it.

        Args:
            spec: the grammar.
            seconds: what that may take.

        Raises:
            InvalidRequestError: the grammar cannot be used, takes too long or too much memory.
            EngineDeadError: no process can be started.
        """
        connection = self._connection or self._start()
        try:
            verdict = _ask(connection, spec, seconds)
        except TimeoutError:
            self.close()
            message = f"The grammar could not be compiled within {seconds:g} seconds. Make it simpler."
            raise InvalidRequestError(message, param="grammar") from None
        except ChannelClosedError:
            self.close()
            raise InvalidRequestError("The grammar takes too much memory. Make it simpler.", param="grammar") from None
        if verdict.refusal is not None:
            raise InvalidRequestError(verdict.refusal, param="grammar")

    def kill(self) -> None:
        """End the process, from any thread; a check under way is over."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process; another check starts one again."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> socket.socket:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._process, self._connection = start_child(self._module)
            try:
                _ask(self._connection, self._vocabulary(), START_SECONDS)
            except (TimeoutError, ChannelClosedError):
                message = "The process that compiles grammars did not start; see its output above."
                raise EngineDeadError(message) from None
            on_failure.pop_all()
        return self._connection


def _ask(connection: socket.socket, message: GrammarSpec | Vocabulary, seconds: float) -> GrammarVerdict:
    """Send a message and wait for the verdict.

    Raises:
        TimeoutError: it takes longer.
        ChannelClosedError: the process has ended.
    """
    connection.settimeout(seconds)
    channel = Channel(connection)
    channel.send(message)
    verdict: GrammarVerdict = channel.receive()
    return verdict
