"""Where parsers put what they find, until it is taken."""

from __future__ import annotations

from server.parsing.base import Arguments, CallBegins, Content, Event, Thought


class Findings:
    """Collects the events of one choice.

    Models put line ends around their calls. Blanks with nothing else before the first call, between two calls or after
    the last one are therefore no content; they are held until it is known what follows.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._blanks: str | None = ""  # at the start or behind a call; None once content has begun
        self._calls = False

    def content(self, text: str) -> None:
        """More of the answer itself."""
        if self._blanks is None:
            self._add(Content(text))
        elif (self._blanks + text).isspace() or not text:
            self._blanks += text
        else:
            self._add(Content(self._blanks + text))
            self._blanks = None

    def thought(self, text: str) -> None:
        """More of the reasoning."""
        self._add(Thought(text))

    def call(self, name: str, call_id: str | None = None) -> None:
        """A call begins."""
        self._add(CallBegins(name, call_id))
        self._blanks = ""
        self._calls = True

    def arguments(self, text: str) -> None:
        """More of the arguments of the latest call."""
        self._add(Arguments(text))

    def take(self) -> list[Event]:
        """What was found since it was taken last."""
        taken, self._events = self._events, []
        return taken

    def take_last(self) -> list[Event]:
        """As `take`, now that nothing will follow."""
        if self._blanks and not self._calls:
            self._add(Content(self._blanks))
        return self.take()

    def _add(self, event: Event) -> None:
        if isinstance(event, CallBegins) or event.text:
            self._events.append(event)
