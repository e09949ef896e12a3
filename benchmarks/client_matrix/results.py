"""What became of the checks of a client, read from the JUnit file that both pytest and Node.js write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.client_matrix.clients import CAPABILITIES, Client


class Outcome(StrEnum):
    """Of a check, and of all checks of a capability together."""

    PASSED = "pass"
    FAILED = "fail"
    SKIPPED = "n/a"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        capability: a key of `CAPABILITIES`.
        what: in a few words.
        outcome: what became of it.
        reason: why it failed or does not apply.
    """

    capability: str
    what: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClientResult:
    """What became of a client.

    Attributes:
        client: which.
        version: of its package.
        checks: in the order they were tried; none if it could not be installed.
        trouble: why there are no checks, or none to be trusted.
        not_installed: that is the trouble.
    """

    client: Client
    version: str
    checks: tuple[Check, ...]
    trouble: str = ""
    not_installed: bool = False

    @property
    def passed(self) -> bool:
        """Whether everything that applies was tried and works."""
        return not self.trouble and all(check.outcome is not Outcome.FAILED for check in self.checks)

    def outcome(self, capability: str) -> Outcome:
        """Of all checks of a capability; not applicable if there is none."""
        outcomes = {check.outcome for check in self.checks if check.capability == capability}
        return next((each for each in (Outcome.FAILED, Outcome.PASSED) if each in outcomes), Outcome.SKIPPED)


def read_junit(file: Path) -> tuple[Check, ...]:
    """The checks in a JUnit file.

    Raises:
        ValueError: a check does not say what it is about.
    """
    return tuple(_check(case) for case in ElementTree.parse(file).getroot().iter("testcase"))


def _check(case: ElementTree.Element) -> Check:
    capability, what = _name(case.get("name", ""))
    failed = case.find("failure") if case.find("failure") is not None else case.find("error")
    skipped = case.find("skipped")
    if failed is not None:
        return Check(capability, what, Outcome.FAILED, _first_line(failed.get("message") or failed.text or ""))
    if skipped is not None:
        return Check(capability, what, Outcome.SKIPPED, _first_line(skipped.get("message") or ""))
    return Check(capability, what, Outcome.PASSED)


def _name(name: str) -> tuple[str, str]:
    """`test_tools_asked_for[streamed]` and `tools: asked for, streamed` are both tools, asked for, streamed."""
    words = re.sub(r"\[(.*)\]$", r", \1", name.removeprefix("test_")).replace("_", " ").replace(":", "")
    capability, _, what = words.partition(" ")
    if capability.strip(",") not in CAPABILITIES:
        raise ValueError(f"The check {name!r} does not begin with one of {', '.join(CAPABILITIES)}")
    return capability.strip(","), what.strip() or capability


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]


def all_passed(results: Sequence[ClientResult]) -> bool:
    """Whether the table has no failure in it."""
    return all(result.passed for result in results)
