"""Which tokens of an answer made its content, found by watching what a parser does with each character."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from server.parsing.base import Arguments, CallBegins, Content, Event, StreamParser, Thought
from server.translate import PlacedLogprob


class _Fed(NamedTuple):
    """Tokens, and between which characters their text stands."""

    begin: int
    end: int
    tokens: Sequence[PlacedLogprob]


class ContentTokens:
    """Feeds a parser, and gives out the tokens any character of which became content.

    A parser does not say where it found what it found. But content and thoughts are copied from the text, in its
    order, and with one character at a time there is hardly ever more than one place they can be from.

    Args:
        parser: reads the choice.
    """

    def __init__(self, parser: StreamParser) -> None:
        self._parser = parser
        self._waiting: deque[_Fed] = deque()
        self._made: list[PlacedLogprob] = []
        self._text = ""  # that was fed, and of which it is not known what it became
        self._begin = 0  # where that stands

    def feed(self, text: str, tokens: Sequence[PlacedLogprob]) -> list[Event]:
        """As `StreamParser.feed`.

        Args:
            text: how the text goes on.
            tokens: that make it.
        """
        if tokens:
            begin = self._begin + len(self._text)
            self._waiting.append(_Fed(begin, begin + len(text), tokens))
        events: list[Event] = []
        for character in text:
            self._text += character
            found = self._parser.feed(character)
            self._settle(found)
            events += found
        return events

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`. Tokens without text at the end count as content."""
        events = self._parser.finish()
        self._settle(events)
        for fed in self._waiting:
            if fed.begin == fed.end:
                self._made += fed.tokens
        self._waiting.clear()
        return events

    def take(self) -> tuple[PlacedLogprob, ...]:
        """Tokens that made content, since they were taken last."""
        taken, self._made = tuple(self._made), []
        return taken

    def _settle(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Content | Thought):
                place = self._place(event.text)
                if isinstance(event, Content):
                    self._release(self._begin + place, self._begin + place + len(event.text))
                self._forget(place + len(event.text))
        if events and isinstance(events[-1], CallBegins | Arguments):
            self._forget(len(self._text))  # arguments need not be spelled as in the text

    def _place(self, text: str) -> int:
        """Where this is in the text: at its beginning if that fits, else behind something the parser left out."""
        if self._text.startswith(text):
            return 0
        if self._text.endswith(text):
            return len(self._text) - len(text)
        return max(0, self._text.find(text))

    def _forget(self, size: int) -> None:
        size = min(size, len(self._text))
        self._text = self._text[size:]
        self._begin += size

    def _release(self, begin: int, end: int) -> None:
        """Content was made of the characters from `begin` to `end`; what stands before them made none."""
        while self._waiting and self._waiting[0].begin < end:
            fed = self._waiting.popleft()
            if fed.end > begin:
                self._made += fed.tokens
