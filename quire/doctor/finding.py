"""What a check finds: one line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: `ok`; `warning` if Quire works, but less well than it could; `problem` if something will fail.
        subject: what was looked at.
        fact: what was found.
        advice: what to do about it; empty where all is well.
    """

    level: Level
    subject: str
    fact: str
    advice: str = ""


def ok(subject: str, fact: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, fact)


def warning(subject: str, fact: str, advice: str) -> Finding:
    """Quire works, but less well than it could."""
    return Finding("warning", subject, fact, advice)


def problem(subject: str, fact: str, advice: str) -> Finding:
    """Something will fail."""
    return Finding("problem", subject, fact, advice)
