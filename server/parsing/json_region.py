"""Calls as JSON objects behind a marker: one, several, or a list of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from server.parsing.call_object import CallObject
from server.parsing.findings import Findings
from server.parsing.json_scanner import BLANKS


class JsonRegion:
    """Reads `{…}`, `[{…}, {…}]` or objects with commas, semicolons or blanks between them.

    The region is over behind its closing marker, behind the bracket that closes its list, or before the first thing
    that is neither. What was no call, from the opening marker or the last call on, is given back as content.

    Args:
        findings: gets the calls.
        opening: the marker before it; "" if there is none.
        closing: markers that may stand at its end; they are no content.
        names: as for `CallObject`.
    """

    def __init__(
        self, findings: Findings, opening: str, closing: Sequence[str] = (), names: Collection[str] | None = None
    ) -> None:
        self.over = False
        self._findings = findings
        self._closing = closing
        self._names = names
        self._unread = opening  # what would be content if nothing more came of it
        self._object: CallObject | None = None
        self._calls = 0
        self._in_list = False
        self._list_over = False

    def feed(self, text: str) -> int:
        """As `Region.feed`."""
        place = 0
        while place < len(text) and not self.over:
            before, within = place, self._object is not None
            place = self._within(text, place, self._object) if self._object else self._between(text, place)
            if place == before and within == (self._object is not None):
                break  # may become a closing marker
        return place

    def finish(self, rest: str) -> None:
        """As `Region.finish`."""
        if self._object is not None and self._object.begun:
            return
        left = self._unread + rest
        cut_off = self._calls > 0 and (
            not left.strip(BLANKS + "[],;") or any(each.startswith(left.strip(BLANKS)) for each in self._closing)
        )
        if not cut_off:
            self._findings.content(left)

    def _between(self, text: str, place: int) -> int:
        """Before, between and behind the objects; stays where it is if it takes more text to decide."""
        character = text[place]
        if character == "{" and not self._list_over:
            self._object = CallObject(self._findings, self._names)
            return place
        if self._calls:
            for marker in self._closing:
                if text.startswith(marker, place):
                    self.over = True
                    return place + len(marker)
                if marker.startswith(text[place:]):
                    return place
        if character == "[" and not self._in_list and not self._calls:
            self._in_list = True
        elif character == "]" and self._in_list and self._calls:
            self._list_over = True
            self.over = not self._closing
        elif character not in BLANKS and (character not in ",;" or not self._calls or self._list_over):
            self._give_back()
            return place
        self._unread += character
        return place + 1

    def _within(self, text: str, place: int, one: CallObject) -> int:
        end = one.feed(text, place)
        self._unread = "" if one.begun else self._unread + text[place:end]
        if one.over:
            self._object = None
            self._calls += one.begun
            if not one.begun:
                self._give_back()
        return end

    def _give_back(self) -> None:
        self._findings.content(self._unread)
        self.over = True
