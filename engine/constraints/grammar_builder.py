"""Compiles grammars beside the step loop, so that nobody's tokens wait for somebody else's schema."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from engine.constraints.base import CompiledGrammar
from engine.errors import InvalidRequestError, QuireError, RequestFailedError
from engine.types import GrammarSpec

MOST_CACHED = 64
"""Compiled grammars that are kept; the one not used for longest goes first."""

MOST_THREADS = 2
"""Grammars that are compiled at the same time."""


class Compiler(Protocol):
    """What `engine.constraints.grammar.GrammarCompiler` does."""

    def compile(self, spec: GrammarSpec) -> CompiledGrammar:
        """The compiled grammar, or an `InvalidRequestError`."""
        ...


class BuiltGrammar(NamedTuple):
    """What became of the grammar of a request: the grammar, or why there is none."""

    request_id: str
    grammar: CompiledGrammar | QuireError


class _Build:
    """A grammar that is wanted and not there yet."""

    def __init__(self) -> None:
        self.request_ids: dict[str, None] = {}
        self.due: float | None = None  # once it has begun


class _Finished(NamedTuple):
    """What a thread brings."""

    build: _Build
    spec: GrammarSpec
    outcome: CompiledGrammar | QuireError


class GrammarBuilder:
    """Used by one thread, the step loop's; compiles in others.

    A thread cannot be ended from outside. One that has taken too long is left to itself, and what it brings is dropped:
    another takes its place. llguidance's own limits see to it that it ends some time.

    Args:
        compiler: compiles.
        seconds: what one grammar may take.
        clock: by which that is measured.
    """

    def __init__(self, compiler: Compiler, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._compiler = compiler
        self._seconds = seconds
        self._clock = clock
        self._cache: OrderedDict[GrammarSpec, CompiledGrammar] = OrderedDict()
        self._builds: dict[GrammarSpec, _Build] = {}
        self._waiting: deque[GrammarSpec] = deque()
        self._ready: list[BuiltGrammar] = []
        self._finished: queue.SimpleQueue[_Finished] = queue.SimpleQueue()

    @property
    def waiting(self) -> list[str]:
        """Requests that have been told nothing yet."""
        ready = [each.request_id for each in self._ready]
        return [*ready, *(request_id for build in self._builds.values() for request_id in build.request_ids)]

    def want(self, request_id: str, spec: GrammarSpec) -> None:
        """Have a grammar compiled for a request, unless it is there already; `take` hands it out."""
        cached = self._cache.get(spec)
        if cached is not None:
            self._cache.move_to_end(spec)
            self._ready.append(BuiltGrammar(request_id, cached))
            return
        if spec not in self._builds:
            self._builds[spec] = _Build()
            self._waiting.append(spec)
        self._builds[spec].request_ids[request_id] = None
        self._begin_builds()

    def forget(self, request_id: str) -> None:
        """The request does not wait any more. A build nobody waits for is not begun; one under way is finished."""
        self._ready = [each for each in self._ready if each.request_id != request_id]
        for build in self._builds.values():
            build.request_ids.pop(request_id, None)

    def take(self, patience: float = 0.0) -> list[BuiltGrammar]:
        """What has been decided since the last call.

        Args:
            patience: seconds to wait for something if there is nothing yet.
        """
        if self._builds:
            self._collect(0.0 if self._ready else patience)
            self._give_up_overdue()
            self._begin_builds()
        taken, self._ready = self._ready, []
        return taken

    def _collect(self, patience: float) -> None:
        """Take what the threads have finished."""
        try:
            while True:
                finished = self._finished.get(timeout=patience) if patience else self._finished.get_nowait()
                patience = 0.0
                if self._builds.get(finished.spec) is finished.build:  # else it was given up
                    self._decide(finished.spec, finished.outcome)
        except queue.Empty:
            pass

    def _decide(self, spec: GrammarSpec, outcome: CompiledGrammar | QuireError) -> None:
        build = self._builds.pop(spec)
        self._ready += [BuiltGrammar(request_id, outcome) for request_id in build.request_ids]
        if not isinstance(outcome, QuireError):
            self._cache[spec] = outcome
            if len(self._cache) > MOST_CACHED:
                self._cache.popitem(last=False)

    def _give_up_overdue(self) -> None:
        now = self._clock()
        overdue = [spec for spec, build in self._builds.items() if build.due is not None and build.due <= now]
        for spec in overdue:
            message = f"The grammar could not be compiled within {self._seconds:g} seconds. Make it simpler."
            self._decide(spec, InvalidRequestError(message, param="grammar"))

    def _begin_builds(self) -> None:
        running = sum(build.due is not None for build in self._builds.values())
        while self._waiting and running < MOST_THREADS:
            spec = self._waiting.popleft()
            build = self._builds[spec]
            if not build.request_ids:
                del self._builds[spec]
                continue
            build.due = self._clock() + self._seconds
            running += 1
            threading.Thread(target=self._build, args=(build, spec), name="grammar", daemon=True).start()

    def _build(self, build: _Build, spec: GrammarSpec) -> None:
        """Compile one grammar; in a thread of its own."""
        outcome: CompiledGrammar | QuireError = RequestFailedError("Compiling the grammar failed.")
        try:
            outcome = self._compiler.compile(spec)
        except QuireError as error:
            outcome = error
        finally:
            self._finished.put(_Finished(build, spec, outcome))
