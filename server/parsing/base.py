"""What is found in a model's text: thoughts, content and tool calls, in the order they come.

A parser is fed the text as it grows and answers with events. How the text was cut must not matter: `joined` events of
any cutting are the same. So a parser holds back what may still become a marker, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias


class Thought(NamedTuple):
    """Text of the reasoning."""

    text: str


class Content(NamedTuple):
    """Text of the answer itself."""

    text: str


class CallBegins(NamedTuple):
    """A tool is called; the `Arguments` that follow are this call's, up to the next one."""

    name: str
    call_id: str | None = None  # the model's own, where its format has one


class Arguments(NamedTuple):
    """More of the JSON text of the arguments of the latest call."""

    text: str


Event: TypeAlias = Thought | Content | CallBegins | Arguments


class StreamParser(Protocol):
    """Reads the text of one choice. Never fails: what is not what it looked like is content."""

    def feed(self, text: str) -> list[Event]:
        """What is certain now that the text goes on with this."""
        ...

    def finish(self) -> list[Event]:
        """What is left, now that the text has ended; also where it was cut off in the middle of something."""
        ...


class PlainParser:
    """All text is content."""

    def feed(self, text: str) -> list[Event]:
        """The text itself."""
        return [Content(text)] if text else []

    def finish(self) -> list[Event]:
        """Nothing is ever left."""
        return []


def joined(events: Iterable[Event]) -> list[Event]:
    """The events with neighbours of the same kind made one: what does not depend on how the text was cut."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, CallBegins) or type(event) is not type(last):
            result.append(event)
        else:
            result[-1] = type(event)(last.text + event.text)
    return [event for event in result if isinstance(event, CallBegins) or event.text]
