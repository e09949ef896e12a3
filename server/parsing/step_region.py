"""Regions that are read step by step: a tag, a name, a value, and what stands between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.parsing.findings import Findings
from server.parsing.json_scanner import BLANKS

MOST_OF_A_NAME = 200
"""Characters; what is longer is none."""


class StepRegion:
    """A `Region` whose steps are methods.

    A step is shown the text not yet used, says how much of that it uses, and sets the next step. It uses nothing and
    stays the step if it takes more text to decide. Until a call has begun, what is used is remembered, to be given back
    as content if nothing comes of it; afterwards it belongs to the call.

    Args:
        findings: gets the calls.
        opening: the marker before it.

    Attributes:
        over: as `Region.over`.
    """

    def __init__(self, findings: Findings, opening: str) -> None:
        self.over = False
        self._findings = findings
        self._unread: str | None = opening  # what would be content if nothing more came of it
        self._step: Callable[[str], int] = self._give_back

    def feed(self, text: str) -> int:
        """As `Region.feed`."""
        place = 0
        while place < len(text) and not self.over:
            step = self._step
            used = step(text[place:])
            if self._unread is not None:
                self._unread += text[place : place + used]
            place += used
            if not used and step == self._step:
                break
        return place

    def finish(self, rest: str) -> None:
        """As `Region.finish`: of a call that is cut off nothing but what was passed on already."""
        if self._unread is not None:
            self._findings.content(self._unread + rest)

    def _call(self, name: str, call_id: str | None = None) -> None:
        self._findings.call(name, call_id)
        self._unread = None

    def _give_back(self, _text: str = "") -> int:
        """A step for what is no call after all."""
        self._findings.content(self._unread or "")
        self._unread = None
        self.over = True
        return 0


def next_tag(text: str, tags: Sequence[str]) -> str | None:
    """The tag that stands next in a text, behind blanks: "" if that cannot be said yet, None if there is none."""
    text = text.lstrip(BLANKS)
    for tag in tags:
        if text.startswith(tag):
            return tag
    return "" if any(tag.startswith(text) for tag in tags) else None


def through(text: str, tag: str) -> int:
    """How much of a text it takes to be behind a tag that is in it."""
    return text.index(tag) + len(tag)
