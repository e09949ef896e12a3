"""Verdicts on grammars: kept per model, found out off the event loop, in few processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec
from server import grammar_checks
from server.grammar_checks import MOST_CHECKERS, MOST_REMEMBERED, GrammarChecks
from server.text import ModelText
from tests.fakes.text import model_text

PATIENCE = 300.0


class Checker:
    """In place of `GrammarChecker`: refuses `bad…`, and waits for the gate with `slow…`."""

    made: list[Checker] = []  # noqa: RUF012 - emptied for each test
    gate = threading.Event()

    def __init__(self, vocabulary: Any) -> None:
        self.vocabulary = vocabulary
        self.checked: list[str] = []
        self.closed = self.killed = False
        Checker.made.append(self)

    def check(self, spec: GrammarSpec, seconds: float) -> None:
        self.checked.append(spec.source)
        if spec.source.startswith("slow"):
            assert Checker.gate.wait(PATIENCE)
        if spec.source.startswith("bad"):
            raise InvalidRequestError("It is bad.", param="grammar")

    def kill(self) -> None:
        self.killed = True
        Checker.gate.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrammarChecks]:
    Checker.made, Checker.gate = [], threading.Event()
    monkeypatch.setattr(grammar_checks, "GrammarChecker", Checker)
    checks = GrammarChecks()
    yield checks
    Checker.gate.set()
    checks.close()


@pytest.fixture
def text(tmp_path: Path) -> ModelText:
    return model_text(tmp_path)


def spec(source: str) -> GrammarSpec:
    return GrammarSpec(GrammarKind.REGEX, source)


async def begun() -> None:
    """Wait until the first checker has something to do."""
    while not (Checker.made and Checker.made[0].checked):
        await asyncio.sleep(0.01)


def test_each_grammar_is_tried_once_for_a_model(checks: GrammarChecks, text: ModelText) -> None:
    async def body() -> None:
        for _ in range(2):
            await checks.check(spec("good"), "one", text, 1)
            with pytest.raises(InvalidRequestError, match=r"It is bad\."):
                await checks.check(spec("bad"), "one", text, 1)
        await checks.check(spec("good"), "two", text, 1)

    asyncio.run(body())
    (checker,) = Checker.made
    assert checker.checked == ["good", "bad", "good"]


def test_a_model_that_was_loaded_anew_is_tried_anew(checks: GrammarChecks, text: ModelText, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    again = model_text(tmp_path / "again")

    async def body() -> None:
        await checks.check(spec("good"), "one", text, 1)
        await checks.check(spec("good"), "one", again, 1)

    asyncio.run(body())
    assert [each.checked for each in Checker.made] == [["good"], ["good"]]


def test_models_share_the_few_processes_there_may_be(checks: GrammarChecks, tmp_path: Path) -> None:
    texts = []
    for number in range(MOST_CHECKERS + 1):
        (tmp_path / str(number)).mkdir()
        texts.append(model_text(tmp_path / str(number)))

    async def body() -> None:
        for number, each in enumerate(texts):
            await checks.check(spec("good"), str(number), each, 1)

    asyncio.run(body())
    assert [each.closed for each in Checker.made] == [True] + [False] * MOST_CHECKERS


def test_a_slow_one_does_not_hold_up_the_event_loop_or_others(checks: GrammarChecks, text: ModelText) -> None:
    async def body() -> None:
        slow = asyncio.create_task(checks.check(spec("slow"), "one", text, 1))
        await begun()
        async with asyncio.timeout(PATIENCE):
            await checks.check(spec("good"), "one", text, 1)
        assert not slow.done()
        Checker.gate.set()
        await slow

    asyncio.run(body())
    assert len(Checker.made) == 2


def test_closing_ends_what_is_under_way(checks: GrammarChecks, text: ModelText) -> None:
    async def body() -> None:
        slow = asyncio.create_task(checks.check(spec("slow"), "one", text, 1))
        await begun()
        checks.close()
        async with asyncio.timeout(PATIENCE):
            await slow

    asyncio.run(body())
    assert Checker.made[0].killed


def test_verdicts_do_not_pile_up(checks: GrammarChecks, text: ModelText) -> None:
    async def body() -> None:
        for number in range(MOST_REMEMBERED + 10):
            await checks.check(spec(str(number)), "one", text, 1)
            if number % 100 == 0:
                await checks.check(spec("0"), "one", text, 1)  # used now and then, and so kept

    asyncio.run(body())
    (checker,) = Checker.made
    assert checker.checked.count("0") == 1
    assert len(checks._verdicts["one"].refusals) == MOST_REMEMBERED


def test_what_a_process_is_told_of_the_tokens(checks: GrammarChecks, text: ModelText) -> None:
    asyncio.run(checks.check(spec("good"), "one", text, 1))
    vocabulary = Checker.made[0].vocabulary()
    assert len(vocabulary.tokens) == text.tokenizer.vocab_size
    assert vocabulary.special == text.tokenizer.special_ids
    assert vocabulary.end_token_ids == text.defaults.eos_token_ids
