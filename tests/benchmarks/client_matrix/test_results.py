"""Reading what pytest and Node.js write, and the page made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.client_matrix.clients import CLIENTS
from benchmarks.client_matrix.page import page
from benchmarks.client_matrix.results import Check, ClientResult, Outcome, all_passed, read_junit

PYTEST = """<testsuites><testsuite name="pytest">
<testcase name="test_plain_chat" time="1"/>
<testcase name="test_tools_round_trip[streamed]"><failure message="assert 1 == 2&#10;more">lines</failure></testcase>
<testcase name="test_logprobs"><skipped type="pytest.skip" message="it has none">x</skipped></testcase>
<testcase name="test_cancel_of_a_task"><error message="fixture broke">lines</error></testcase>
</testsuite></testsuites>"""

NODE = """<testsuites>
<testcase name="plain: chat" classname="test"/>
<testcase name="tools: round trip, streamed"><failure type="testCodeFailure" message="no">no</failure></testcase>
<testcase name="logprobs"><skipped type="skipped" message="it has none"/></testcase>
</testsuites>"""


def junit(folder: Path, text: str) -> tuple[Check, ...]:
    file = folder / "junit.xml"
    file.write_text(text)
    return read_junit(file)


def test_what_pytest_writes(tmp_path: Path) -> None:
    assert junit(tmp_path, PYTEST) == (
        Check("plain", "chat", Outcome.PASSED),
        Check("tools", "round trip, streamed", Outcome.FAILED, "assert 1 == 2"),
        Check("logprobs", "logprobs", Outcome.SKIPPED, "it has none"),
        Check("cancel", "of a task", Outcome.FAILED, "fixture broke"),
    )


def test_what_node_writes(tmp_path: Path) -> None:
    assert junit(tmp_path, NODE) == (
        Check("plain", "chat", Outcome.PASSED),
        Check("tools", "round trip, streamed", Outcome.FAILED, "no"),
        Check("logprobs", "logprobs", Outcome.SKIPPED, "it has none"),
    )


def test_a_check_of_nothing_known_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begin with one of plain"):
        junit(tmp_path, '<testsuites><testcase name="test_weather"/></testsuites>')


def test_a_capability_fails_if_one_of_its_checks_does() -> None:
    checks = (
        Check("plain", "chat", Outcome.PASSED),
        Check("tools", "whole", Outcome.PASSED),
        Check("tools", "streamed", Outcome.FAILED, "no"),
        Check("cancel", "cancel", Outcome.SKIPPED, "it cannot"),
        Check("errors", "one", Outcome.SKIPPED, "it cannot"),
        Check("errors", "two", Outcome.PASSED),
    )
    result = ClientResult(CLIENTS[0], "1", checks)
    outcomes = [str(result.outcome(each)) for each in ("plain", "tools", "cancel", "errors", "logprobs")]
    assert outcomes == ["pass", "fail", "n/a", "pass", "n/a"]
    assert not result.passed


def test_what_could_not_be_tried_has_not_passed() -> None:
    untried = ClientResult(CLIENTS[0], "1", (), "not installed: no network")
    assert not untried.passed
    assert not all_passed([ClientResult(CLIENTS[1], "1", (Check("plain", "chat", Outcome.PASSED),)), untried])


def test_the_page_says_what_was_tried_and_why_not() -> None:
    checks = (
        Check("plain", "chat", Outcome.PASSED),
        Check("errors", "in shape", Outcome.PASSED),
        Check("errors", "in shape", Outcome.PASSED),
        Check("tools", "round trip", Outcome.FAILED, "no call"),
        Check("logprobs", "logprobs", Outcome.SKIPPED, "it has none"),
    )
    text = page([ClientResult(CLIENTS[0], "1.2.3", checks)], "Some machine.")
    row = "| `openai` (Python, strict validation) | 1.2.3 | pass | – | fail | – | n/a | pass | – | – | – |"
    assert row in text
    assert "- errors: in shape (2 times)" in text
    assert "- tools: **round trip fails**: no call" in text
    assert "- log-probabilities: n/a, it has none" in text
    assert "Some machine." in text
