"""The process that tries grammars: its verdicts, and that it can be stopped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from engine.errors import EngineDeadError, InvalidRequestError
from engine.grammar_checker import GrammarChecker
from engine.grammar_messages import Vocabulary
from engine.types import GrammarKind, GrammarSpec

PATIENCE = 300.0
VOCABULARY = Vocabulary((*(bytes([byte]) for byte in range(256)), b"</s>"), frozenset({256}), (256,))
FINE = GrammarSpec(GrammarKind.REGEX, "a+")
# the intersection of so many expressions takes longer than anybody waits, whatever llguidance's own limits
ENDLESS = GrammarSpec(
    GrammarKind.JSON_SCHEMA,
    json.dumps({"allOf": [{"type": "string", "pattern": f"[a-z]*{chr(97 + i)}[a-z]{{{i}}}"} for i in range(20)]}),
)


@pytest.fixture
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker(lambda: VOCABULARY)
    yield checker
    checker.close()


def test_verdicts(checker: GrammarChecker) -> None:
    checker.check(FINE, PATIENCE)
    with pytest.raises(InvalidRequestError, match="uniqueItems") as caught:
        checker.check(GrammarSpec(GrammarKind.JSON_SCHEMA, '{"type": "array", "uniqueItems": true}'), PATIENCE)
    assert caught.value.param == "grammar"
    checker.check(FINE, PATIENCE)


def test_a_grammar_that_takes_too_long_is_stopped_and_the_next_one_served(checker: GrammarChecker) -> None:
    checker.check(FINE, PATIENCE)
    process = checker._process
    assert process is not None
    with pytest.raises(InvalidRequestError, match=r"within 0\.5 seconds"):
        checker.check(ENDLESS, 0.5)
    assert process.poll() is not None
    checker.check(FINE, PATIENCE)


def test_a_process_that_dies_is_replaced(checker: GrammarChecker) -> None:
    checker.check(FINE, PATIENCE)
    killer = threading.Timer(0.5, checker.kill)
    killer.start()
    with pytest.raises(InvalidRequestError, match="memory"):
        checker.check(ENDLESS, PATIENCE)
    killer.join()
    checker.check(FINE, PATIENCE)


def test_closing_ends_the_process_and_a_later_check_starts_another(checker: GrammarChecker) -> None:
    checker.check(FINE, PATIENCE)
    process = checker._process
    assert process is not None
    checker.close()
    assert process.poll() is not None
    checker.check(FINE, PATIENCE)


def test_the_process_ends_with_whoever_started_it(checker: GrammarChecker) -> None:
    checker.check(FINE, PATIENCE)
    process, connection = checker._process, checker._connection
    assert process is not None
    assert connection is not None
    connection.close()
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is not None


def test_a_process_that_does_not_start() -> None:
    checker = GrammarChecker(lambda: VOCABULARY, module="tests.engine.no_such_module")
    with pytest.raises(EngineDeadError, match="did not start"):
        checker.check(FINE, PATIENCE)
