"""For requests that want no more than one call."""

from __future__ import annotations

from collections.abc import Iterable

from server.parsing.base import CallBegins, Event, StreamParser


class OneCall:
    """Lets the first call through, and drops the others and all behind them.

    Args:
        parser: finds the calls.
    """

    def __init__(self, parser: StreamParser) -> None:
        self._parser = parser
        self._calls = 0

    def feed(self, text: str) -> list[Event]:
        """As `StreamParser.feed`."""
        return self._first(self._parser.feed(text))

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`."""
        return self._first(self._parser.finish())

    def _first(self, events: Iterable[Event]) -> list[Event]:
        kept: list[Event] = []
        for event in events:
            self._calls += isinstance(event, CallBegins)
            if self._calls < 2:
                kept.append(event)
        return kept
