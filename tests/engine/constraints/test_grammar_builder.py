"""Building grammars beside the step loop, with a compiler that takes as long as the test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest

from engine.constraints.base import CompiledGrammar, TokenConstraint
from engine.constraints.grammar_builder import MOST_CACHED, MOST_THREADS, BuiltGrammar, GrammarBuilder
from engine.errors import InvalidRequestError, RequestFailedError
from engine.types import GrammarKind, GrammarSpec

PATIENCE = 300.0


class Grammar(CompiledGrammar):
    """Knows what it was made from."""

    def __init__(self, spec: GrammarSpec) -> None:
        self.spec = spec

    def constraint(self, request_id: str = "", stop_token_ids: Sequence[int] = ()) -> TokenConstraint:
        raise NotImplementedError


class Compiler:
    """`slow…` waits for the gate, `wrong…` is refused, `bug…` fails as nobody foresaw."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.compiled: list[str] = []

    def compile(self, spec: GrammarSpec) -> CompiledGrammar:
        self.compiled.append(spec.source)
        self.begun.release()
        if spec.source.startswith("slow"):
            assert self.gate.wait(PATIENCE)
        if spec.source.startswith("wrong"):
            raise InvalidRequestError("It is wrong.", param="grammar")
        if spec.source.startswith("bug"):
            raise ZeroDivisionError("a bug")
        return Grammar(spec)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    compiler = Compiler()
    yield compiler
    compiler.gate.set()


def spec(source: str) -> GrammarSpec:
    return GrammarSpec(GrammarKind.REGEX, source)


def take(builder: GrammarBuilder, count: int) -> dict[str, object]:
    built: list[BuiltGrammar] = []
    for _ in range(20):  # what comes too late for anybody ends the patience of a call too
        built += builder.take(PATIENCE) if len(built) < count else []
    assert len(built) == count
    return {each.request_id: each.grammar for each in built}


def test_requests_get_their_grammars_or_the_reason_why_not(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    builder.want("a", spec("fine"))
    builder.want("b", spec("wrong"))
    assert sorted(builder.waiting) == ["a", "b"]
    built = take(builder, 2)
    assert isinstance(built["a"], Grammar)
    assert built["a"].spec == spec("fine")
    assert isinstance(built["b"], InvalidRequestError)
    assert not builder.waiting
    assert builder.take() == []


def test_a_grammar_is_compiled_once_for_all_who_want_it(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    for request_id in "abc":
        builder.want(request_id, spec("slow"))
    compiler.gate.set()
    built = take(builder, 3)
    assert built["a"] is built["b"] is built["c"]
    builder.want("d", spec("slow"))
    assert take(builder, 1)["d"] is built["a"]
    assert compiler.compiled == ["slow"]


def test_the_grammar_not_used_for_longest_is_forgotten(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    for number in range(MOST_CACHED):
        builder.want("a", spec(str(number)))
        take(builder, 1)
    for source in ("0", "another", "0", "1"):  # "1" has made room for "another"
        builder.want("a", spec(source))
        take(builder, 1)
    assert compiler.compiled[MOST_CACHED:] == ["another", "1"]


def test_what_is_there_already_waits_for_nobody(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    builder.want("a", spec("fine"))
    take(builder, 1)
    for number in range(MOST_THREADS + 1):
        builder.want(f"slow {number}", spec(f"slow {number}"))
    builder.want("b", spec("fine"))
    assert [each.request_id for each in builder.take()] == ["b"]


def test_one_that_takes_too_long_fails_alone_and_makes_room(compiler: Compiler) -> None:
    clock = Clock()
    builder = GrammarBuilder(compiler, 10, clock)
    for number in range(MOST_THREADS):
        builder.want(f"slow {number}", spec(f"slow {number}"))
        assert compiler.begun.acquire(timeout=PATIENCE)
    builder.want("fine", spec("fine"))
    assert builder.take() == []
    clock.now += 10
    failed = builder.take()
    assert [each.request_id for each in failed] == [f"slow {number}" for number in range(MOST_THREADS)]
    for each in failed:
        assert isinstance(each.grammar, InvalidRequestError)
        assert "10 seconds" in each.grammar.message
    assert isinstance(take(builder, 1)["fine"], Grammar)
    compiler.gate.set()  # what the slow ones bring now is for nobody
    builder.want("again", spec("slow 0"))
    assert isinstance(take(builder, 1)["again"], Grammar)
    assert builder.take() == []


def test_time_counts_from_where_compiling_begins(compiler: Compiler) -> None:
    clock = Clock()
    builder = GrammarBuilder(compiler, 10, clock)
    for number in range(MOST_THREADS + 1):
        builder.want(f"slow {number}", spec(f"slow {number}"))
    clock.now += 10
    assert len(builder.take()) == MOST_THREADS
    clock.now += 9
    assert builder.take() == []
    assert builder.waiting == [f"slow {MOST_THREADS}"]
    compiler.gate.set()
    assert isinstance(take(builder, 1)[f"slow {MOST_THREADS}"], Grammar)


def test_who_has_left_is_told_nothing(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    builder.want("a", spec("slow"))
    builder.want("b", spec("slow"))
    builder.forget("a")
    compiler.gate.set()
    assert list(take(builder, 1)) == ["b"]
    builder.want("c", spec("slow"))
    builder.forget("c")
    assert builder.take() == []


def test_what_nobody_waits_for_any_more_is_not_begun(compiler: Compiler) -> None:
    builder = GrammarBuilder(compiler, 10)
    for number in range(MOST_THREADS):
        builder.want(str(number), spec(f"slow {number}"))
    builder.want("a", spec("unwanted"))
    builder.forget("a")
    builder.want("b", spec("wanted"))
    compiler.gate.set()
    take(builder, MOST_THREADS + 1)
    assert "unwanted" not in compiler.compiled
    builder.want("a", spec("unwanted"))
    assert list(take(builder, 1)) == ["a"]


def test_a_bug_in_compiling_fails_the_request_and_is_told(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda thread: told.put(thread.exc_type))
    builder = GrammarBuilder(compiler, 10)
    builder.want("a", spec("bug"))
    assert isinstance(take(builder, 1)["a"], RequestFailedError)
    assert told.get(timeout=PATIENCE) is ZeroDivisionError
