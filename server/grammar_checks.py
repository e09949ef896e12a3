"""Grammars are tried before a request is admitted, so that a bad one is refused before the first byte of an answer."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from engine.errors import InvalidRequestError
from engine.grammar_checker import GrammarChecker
from engine.grammar_messages import Vocabulary
from engine.text.token_bytes import token_bytes
from engine.types import GrammarSpec
from server.text import ModelText

MOST_CHECKERS = 2
"""Grammars that are tried at the same time, each in a process of its own."""

MOST_REMEMBERED = 1024
"""Verdicts that are kept of each model."""


class _Verdicts(NamedTuple):
    """What is known of the grammars of one model: why each cannot be used, None if it can."""

    text: ModelText
    refusals: OrderedDict[GrammarSpec, str | None]


class _Checker(NamedTuple):
    """A checker and the model it is for."""

    text: ModelText
    checker: GrammarChecker


class GrammarChecks:
    """Tries each grammar once for each model, off the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_CHECKERS, thread_name_prefix="grammar-check")
        self._verdicts: dict[str, _Verdicts] = {}  # by name of the model
        self._lock = threading.Lock()  # for what follows
        self._idle: list[_Checker] = []  # the one used last is used next
        self._busy: list[_Checker] = []

    async def check(self, spec: GrammarSpec, name: str, text: ModelText, seconds: float) -> None:
        """Refuse a grammar that a model cannot follow.

        Args:
            spec: the grammar.
            name: of the model.
            text: of the model.
            seconds: what compiling the grammar may take.

        Raises:
            InvalidRequestError: it cannot be used.
            EngineDeadError: the system has no room for the process that finds out.
        """
        refusals = self._known(name, text)
        if spec not in refusals:
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._verdict, spec, text, seconds)
            refusals[spec] = await running
            if len(refusals) > MOST_REMEMBERED:
                refusals.popitem(last=False)
        else:
            refusals.move_to_end(spec)
        refusal = refusals.get(spec)
        if refusal is not None:
            raise InvalidRequestError(refusal, param="grammar")

    def close(self) -> None:
        """End the processes; what waits for them is refused."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for each in (*self._idle, *self._busy):
                each.checker.kill()

    def _known(self, name: str, text: ModelText) -> OrderedDict[GrammarSpec, str | None]:
        """The verdicts for a model; none are left from before it was loaded anew."""
        verdicts = self._verdicts.get(name)
        if verdicts is None or verdicts.text is not text:
            verdicts = self._verdicts[name] = _Verdicts(text, OrderedDict())
        return verdicts.refusals

    def _verdict(self, spec: GrammarSpec, text: ModelText, seconds: float) -> str | None:
        """In a thread: why the grammar cannot be used; None if it can."""
        checker = self._take(text)
        try:
            checker.checker.check(spec, seconds)
        except InvalidRequestError as error:
            return error.message
        finally:
            with self._lock:
                self._busy.remove(checker)
                self._idle.append(checker)
        return None

    def _take(self, text: ModelText) -> _Checker:
        """A checker for this model. There are never more than threads: another model's has to go."""
        with self._lock:
            found = next((each for each in reversed(self._idle) if each.text is text), None)
            if found is not None:
                self._idle.remove(found)
            elif len(self._idle) + len(self._busy) == MOST_CHECKERS:
                self._idle.pop(0).checker.close()
            taken = found or _Checker(text, GrammarChecker(lambda: _vocabulary(text)))
            self._busy.append(taken)
        return taken


def _vocabulary(text: ModelText) -> Vocabulary:
    """The tokens as the engine sees them, without the padding of the model's vocabulary."""
    size = text.tokenizer.vocab_size
    table = token_bytes(text.tokenizer, size)
    tokens = tuple(table.of(token_id) for token_id in range(size))
    return Vocabulary(tokens, table.special, tuple(each for each in text.defaults.eos_token_ids if each < size))
