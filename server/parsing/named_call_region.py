"""Calls as a name and a JSON object, each between markers: `BEGINS name SEPARATOR {…} ENDS`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from server.parsing.findings import Findings
from server.parsing.json_scanner import BLANKS, JsonScanner
from server.parsing.markers import split_at_marker
from server.parsing.step_region import MOST_OF_A_NAME, StepRegion, next_tag, through

_HEAD_SO_FAR = re.compile(rf"\s*[^\s<>{{}}]{{0,{MOST_OF_A_NAME}}}\s*")


class CallHead(NamedTuple):
    """What stands before the arguments."""

    name: str
    call_id: str | None = None


class NamedCalls(NamedTuple):
    """A notation."""

    begins: str  # before the name
    separator: str  # behind it
    ends: str  # behind the arguments
    head: Callable[[str], CallHead | None]  # reads what stands between the first two; None if that is no call
    section: tuple[str, str] | None = None  # around all calls; may be missing


class NamedCallRegion(StepRegion):
    """One call, or all of a section.

    Args:
        findings: gets the calls.
        opening: the marker before it, of the section or of a call.
        notation: how they are written.
    """

    def __init__(self, findings: Findings, opening: str, notation: NamedCalls) -> None:
        super().__init__(findings, opening)
        self._notation = notation
        self._section_ends = [notation.section[1]] if notation.section else []
        self._head = CallHead("")
        self._scanner = JsonScanner()
        self._step = self._in_head if opening == notation.begins else self._before_call

    def _before_call(self, text: str) -> int:
        tag = next_tag(text, [self._notation.begins])
        if tag is None:
            return self._give_back()
        if tag == "":
            return 0
        self._step = self._in_head
        return through(text, tag)

    def _in_head(self, text: str) -> int:
        split = split_at_marker(text, [self._notation.separator])
        if not _HEAD_SO_FAR.fullmatch(split.text):
            return self._give_back()
        if split.marker is None:
            return 0
        head = self._notation.head(split.text.strip())
        if head is None:
            return self._give_back()
        self._head = head
        self._step = self._before_arguments
        return len(split.text) + len(split.marker)

    def _before_arguments(self, text: str) -> int:
        tag = next_tag(text, ["{", self._notation.ends])
        if tag is None:
            return self._give_back()
        if tag == "":
            return 0
        self._call(*self._head)
        if tag == "{":
            self._scanner = JsonScanner()
            self._step = self._arguments
        else:
            self._findings.arguments("{}")
            self._step = self._behind_arguments
        return len(text) - len(text.lstrip(BLANKS))

    def _arguments(self, text: str) -> int:
        end = self._scanner.feed(text)
        self._findings.arguments(text[:end])
        if self._scanner.ended:
            self._step = self._behind_arguments
        return end

    def _behind_arguments(self, text: str) -> int:
        """Brackets that are too many stand before the marker only."""
        loose = len(text) - len(text.lstrip(BLANKS + "}]"))
        tag = next_tag(text[loose:], [self._notation.ends, *self._section_ends, self._notation.begins])
        if tag == "":
            return 0
        self._step = self._behind_call
        if tag is None:
            return 0
        return loose + (len(tag) if tag == self._notation.ends else 0)

    def _behind_call(self, text: str) -> int:
        """Ends of sections are no content, however many there are."""
        tag = next_tag(text, [self._notation.begins, *self._section_ends])
        if tag == self._notation.begins:
            self._unread = ""
            self._step = self._before_call
            return 0
        self.over = tag is None
        return through(text, tag) if tag else 0
