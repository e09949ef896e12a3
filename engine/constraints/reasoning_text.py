"""Where in an answer the reasoning stands, told on bytes, so that it does not matter how markers are cut into tokens.

Reasoning stands at the beginning of an answer, after nothing but white space, and ends with its end marker. It may be
opened again straight after that, and nowhere else: an answer may speak of the markers. An end marker where one could be
opened closes an empty block. `server/parsing/reasoning.py` reads text by the same rules.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from engine.constraints.base import Ending
from engine.constraints.stop import StopMatcher
from engine.reasoning import ReasoningSpec

WHITE_SPACE = b" \t\r\n"
NEWLINES = b"\n"
"""What is no part of the answer where it follows the end marker."""


class Place(enum.Enum):
    """A part of an answer."""

    OPENING = enum.auto()  # white space so far, or a part of a marker: reasoning may still come
    REASONING = enum.auto()
    ANSWER = enum.auto()  # which lasts to the end


class Reading(NamedTuple):
    """What has to be remembered of the text so far.

    `partial` are its latest bytes that properly begin a marker; `closed` counts the blocks that have ended.
    """

    place: Place
    partial: bytes = b""
    closed: int = 0


class ReasoningMarkers:
    """Follows the text of an answer. Has no state of its own.

    Args:
        spec: names the markers.
    """

    def __init__(self, spec: ReasoningSpec) -> None:
        self.start = spec.start.encode()
        self.end = spec.end.encode()
        self.first = Reading(Place.REASONING if spec.begun else Place.OPENING)

    def follow(self, reading: Reading, data: bytes) -> tuple[Reading, bytes | None]:
        """Read on.

        Args:
            reading: of the text so far.
            data: what follows.

        Returns:
            The reading after that; and what of `data` stands after the last marker that is complete within it, None if
            none is.
        """
        rest: bytes | None = None
        while reading.place is not Place.ANSWER:
            read = self._reasoning if reading.place is Place.REASONING else self._opening
            reading, after = read(reading, reading.partial + (data if rest is None else rest))
            if after is None:
                break
            rest = after
        return reading, rest

    def _reasoning(self, reading: Reading, text: bytes) -> tuple[Reading, bytes | None]:
        before, marker, after = text.partition(self.end)
        if marker:
            return Reading(Place.OPENING, closed=reading.closed + 1), after
        return reading._replace(partial=_beginning(before, self.end)), None

    def _opening(self, reading: Reading, text: bytes) -> tuple[Reading, bytes | None]:
        text = text.lstrip(WHITE_SPACE)
        if text.startswith(self.start):
            return Reading(Place.REASONING, closed=reading.closed), text[len(self.start) :]
        if text.startswith(self.end):
            return Reading(Place.OPENING, closed=reading.closed + 1), text[len(self.end) :]
        if self.start.startswith(text) or self.end.startswith(text):
            return reading._replace(partial=text), None
        return Reading(Place.ANSWER, closed=reading.closed), None


class AnswerStops:
    """The `Constraint` of a choice that may reason: looks for stop strings in the answer alone, and counts.

    Args:
        spec: of the request.
        stops: looks for the stop strings; None if there are none.

    Attributes:
        tokens: of the answer, up to and including the last one with reasoning or a marker of it.
    """

    def __init__(self, spec: ReasoningSpec, stops: StopMatcher | None) -> None:
        self._markers = ReasoningMarkers(spec)
        self._reading = self._markers.first
        self._stops = stops
        self._undecided = b""  # may turn out to be the beginning of the answer
        self.tokens = 0

    @property
    def held(self) -> int:
        """As `Constraint.held`."""
        return 0 if self._stops is None else self._stops.held + len(self._undecided)

    def advance(self, data: bytes, num_generated: int) -> Ending | None:
        """As `Constraint.advance`."""
        visible = data if self._reading.place is Place.ANSWER else self._read(data, num_generated)
        ending = self._stops.advance(visible, num_generated) if self._stops and visible else None
        # what is visible may begin before these bytes, and ends with them
        return ending and ending._replace(end=ending.end + len(data) - len(visible))

    def _read(self, data: bytes, num_generated: int) -> bytes:
        """What has turned out to belong to the answer."""
        before = self._reading
        self._reading, rest = self._markers.follow(before, data)
        if rest is not None or before.place is Place.REASONING:
            self.tokens = num_generated
        undecided = self._undecided + data if rest is None else rest
        if self._reading.place is Place.REASONING:
            undecided = b""
        elif self._reading.closed:
            undecided = undecided.lstrip(NEWLINES)
        decided = self._reading.place is Place.ANSWER
        self._undecided = b"" if decided else undecided
        return undecided if decided else b""


def _beginning(text: bytes, marker: bytes) -> bytes:
    """The longest end of a text, which does not have the marker in it, that the marker begins with."""
    tail = text[-len(marker) + 1 :] if len(marker) > 1 else b""
    at = tail.find(marker[:1])
    while at >= 0:
        if marker.startswith(tail[at:]):
            return tail[at:]
        at = tail.find(marker[:1], at + 1)
    return b""
