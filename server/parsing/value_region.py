"""What notations have in common in which a call has names, and values as plain texts between tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.argument_writer import ArgumentsWriter
from server.parsing.findings import Findings
from server.parsing.json_scanner import JsonScanner
from server.parsing.markers import split_at_marker
from server.parsing.step_region import StepRegion


class ValueRegion(StepRegion, ABC):
    """A region of such calls. Tags within the strings of a JSON value are part of it.

    Args:
        findings: gets the calls.
        opening: the marker before it.
        parameters: JSON Schema of the arguments of each tool.
        tags: that may stand between values; what else is there is left out.
        ends: tags that end a value; of a line end before one, the tag alone is read on.
    """

    def __init__(
        self,
        findings: Findings,
        opening: str,
        parameters: Mapping[str, Mapping[str, Any] | None],
        tags: Sequence[str],
        ends: Sequence[str],
    ) -> None:
        super().__init__(findings, opening)
        self._parameters = parameters
        self._tags = tags
        self._ends = ends
        self._writer = ArgumentsWriter(None)
        self._scanner = JsonScanner()
        self._seen = 0  # of the value, by the scanner

    def _begin_call(self, name: str) -> None:
        self._call(name)
        self._writer = ArgumentsWriter(self._parameters.get(name))

    def _end_call(self) -> None:
        self._findings.arguments(self._writer.close())

    def _between(self, text: str) -> int:
        """A step, up to the next tag."""
        split = split_at_marker(text, self._tags)
        return len(split.text) + self._behind_tag(split.marker) if split.marker else len(split.text)

    @abstractmethod
    def _behind_tag(self, tag: str) -> int:
        """Go on behind a tag; says how much of it is used."""

    def _value(self, text: str) -> int:
        """A step, from the first character of the value on."""
        self._scanner, self._seen = JsonScanner(), 0
        self._step = self._json_value if text[0] in "{[" and not self._writer.takes_text else self._plain_value
        return 0

    def _json_value(self, text: str) -> int:
        """JSON is taken as a whole; what turns out to be none, or has a string with a line end, is read as plain."""
        broken = False
        while self._seen < len(text) and not self._scanner.ended and not broken:
            at_line_end = text[self._seen] == "\n"
            broken = at_line_end and self._scanner.in_string
            line_end = text.find("\n", self._seen + at_line_end)
            self._seen += self._scanner.feed(text[self._seen : None if line_end < 0 else line_end])
        if not self._scanner.ended and not broken:
            return 0
        used = self._seen if self._scanner.whole else 0
        self._findings.arguments(self._writer.feed(text[:used]))
        self._step = self._plain_value
        return used

    def _plain_value(self, text: str) -> int:
        split = split_at_marker(text, self._ends)
        self._findings.arguments(self._writer.feed(split.text))
        if split.marker is None:
            return len(split.text)
        self._findings.arguments(self._writer.end())
        tag = split.marker.lstrip("\n")
        return len(split.text) + len(split.marker) - len(tag) + self._behind_tag(tag)
