"""From the engine's deltas to pieces of an answer: whole characters, and log-probabilities that travel with their text.

Streamed and whole answers are made of the same pieces, so they cannot differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.text.detokenizer import Utf8Assembler
from engine.types import Finish, OutputDelta
from server.translate import PlacedLogprob


class Piece(NamedTuple):
    """What is to be added to one choice."""

    choice: int  # index among all choices of the HTTP request
    text: str
    logprobs: tuple[PlacedLogprob, ...]
    finish: Finish | None


class ChoiceAssembler:
    """Assembles one choice.

    A log-probability is released together with the first text its token contributes to; tokens without bytes wait
    for the next text. What is left goes out with the finish.

    Args:
        choice: index the pieces carry.
    """

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._utf8 = Utf8Assembler()
        self._bytes = 0  # taken in so far
        self._characters = 0  # given out so far
        self._held: deque[tuple[int, PlacedLogprob]] = deque()  # with the number of bytes before the token
        self.finished = False

    def feed(self, delta: OutputDelta) -> Piece | None:
        """The piece this delta completes, or None if there is nothing to show yet."""
        if delta.logprobs is None:
            text = self._utf8.feed(delta.data)
        else:
            text = ""
            for entry in delta.logprobs:
                self._held.append((self._bytes, PlacedLogprob(entry, self._characters)))
                text += self._add(entry.data)
        if delta.finish is not None:
            self.finished = True
            text += self._utf8.flush()
        logprobs = tuple(self._release()) if self._held else ()
        if not text and not logprobs and delta.finish is None:
            return None
        return Piece(self._choice, text, logprobs, delta.finish)

    def _add(self, data: bytes) -> str:
        text = self._utf8.feed(data)
        self._bytes += len(data)
        self._characters += len(text)
        return text

    def _release(self) -> Iterator[PlacedLogprob]:
        shown = self._bytes - len(self._utf8.pending)
        while self._held and (self._held[0][0] < shown or self.finished):
            yield self._held.popleft()[1]


@dataclass(slots=True)
class WholeChoice:
    """The fold of a choice's pieces."""

    text: list[str] = field(default_factory=list)
    logprobs: list[PlacedLogprob] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.text.append(piece.text)
        self.logprobs.extend(piece.logprobs)
        self.finish = piece.finish or self.finish
