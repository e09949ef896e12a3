"""From the engine's deltas to pieces of an answer: whole characters, what a parser finds in them, and
log-probabilities that travel with the content their tokens make."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.text.detokenizer import Utf8Assembler
from engine.types import OutputDelta, TokenLogprob
from server.chat.call_ids import CallIds
from server.chat.content_tokens import ContentTokens
from server.chat.pieces import Piece
from server.parsing.base import CallBegins, Content, Event, PlainParser, StreamParser, joined
from server.translate import PlacedLogprob


class ChoiceAssembler:
    """Assembles one choice.

    A log-probability is released together with the first content its token contributes to; tokens without bytes wait
    for the next text, and at the end go out with the finish. Tokens that made a thought or a call alone are left out.

    Args:
        choice: index the pieces carry.
        parser: finds thoughts and calls in the text; None if all of it is content.
        call_ids: names the calls; shared by the choices of an answer.
        start: offset at which the text begins.
        tells_end: give the log-probability of the token that ends the answer, too, though it is no part of it.

    Attributes:
        finished: whether the choice has ended.
        calls: whether there were calls so far.
    """

    def __init__(
        self,
        choice: int,
        parser: StreamParser | None = None,
        call_ids: CallIds | None = None,
        *,
        start: int = 0,
        tells_end: bool = False,
    ) -> None:
        self._choice = choice
        self._tells_end = tells_end
        self._parser = parser or PlainParser()
        self._tokens = ContentTokens(self._parser)
        self._call_ids = call_ids or CallIds()
        self._utf8 = Utf8Assembler()
        self._bytes = 0  # taken in so far
        self._characters = start  # up to the end of the text so far
        self._held: deque[tuple[int, PlacedLogprob]] = deque()  # with the number of bytes before the token
        self.finished = False
        self.calls = False

    def feed(self, delta: OutputDelta) -> Piece | None:
        """The piece this delta completes, or None if there is nothing to show yet."""
        if delta.logprobs is None:
            events = self._parser.feed(self._utf8.feed(delta.data))
            if delta.finish is None:  # as most are
                return Piece(self._choice, self._named(events), (), None) if events else None
        else:
            events = [event for entry in delta.logprobs for event in self._add(entry)]
        if delta.finish is not None:
            self.finished = True
            text = self._utf8.flush()
            if self._tells_end and delta.end_logprob is not None:
                self._held.append((self._bytes, PlacedLogprob(delta.end_logprob, self._characters + len(text))))
            events += self._tokens.feed(text, self._release())
            events += self._tokens.finish()
        logprobs = self._tokens.take()
        if not events and not logprobs and delta.finish is None:
            return None
        return Piece(self._choice, self._named(events), logprobs, delta.finish)

    def _add(self, entry: TokenLogprob) -> list[Event]:
        self._held.append((self._bytes, PlacedLogprob(entry, self._characters)))
        text = self._utf8.feed(entry.data)
        self._bytes += len(entry.data)
        self._characters += len(text)
        return self._tokens.feed(text, self._release())

    def _release(self) -> Sequence[PlacedLogprob]:
        """Tokens whose text has begun to come out."""
        shown = self._bytes - len(self._utf8.pending)
        released = []
        while self._held and (self._held[0][0] < shown or self.finished):
            released.append(self._held.popleft()[1])
        return released

    def _named(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """The events, as few as they can be, and every call with an id."""
        if len(events) == 1 and isinstance(events[0], Content):
            return (events[0],)
        return tuple(self._with_id(event) if isinstance(event, CallBegins) else event for event in joined(events))

    def _with_id(self, call: CallBegins) -> CallBegins:
        self.calls = True
        return call._replace(call_id=self._call_ids.name(call.call_id))
