"""Reasoning within a budget, and before an answer that follows a grammar.

Two constraints, which know nothing of each other and are joined where a request wants both. Markers are found on bytes,
in whatever tokens they are spelled.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.constraints.base import TokenConstraint, TokenMask
from engine.constraints.reasoning_text import NEWLINES, Place, Reading, ReasoningMarkers
from engine.errors import InvalidRequestError
from engine.reasoning import ReasoningSpec
from engine.text.token_bytes import TokenBytes
from engine.types import SamplingParams


class Thinking:
    """Makes the constraints of requests that reason.

    Args:
        tokens: bytes of every token.
        end_token_ids: tokens that end an answer.
    """

    def __init__(self, tokens: TokenBytes, end_token_ids: Iterable[int]) -> None:
        self._vocabulary = Vocabulary(tokens)
        self._end_token_ids = tuple(end_token_ids)

    def constraint(self, sampling: SamplingParams, grammar: TokenConstraint | None = None) -> TokenConstraint | None:
        """What holds one choice to its budget and its grammar; None if there is nothing to hold it to.

        Raises:
            InvalidRequestError: what is to close the block does not have the end marker in it.
        """
        spec = sampling.reasoning
        if spec is None:
            return grammar
        budget = None if spec.budget is None else ThinkingBudget(spec, spec.budget, self._vocabulary)
        if grammar is None:
            return budget
        guided = GrammarAfterThinking(spec, grammar, (*self._end_token_ids, *sampling.stop_token_ids), self._vocabulary)
        return guided if budget is None else Both(budget, guided)


class Vocabulary:
    """Sets of tokens, told by their bytes. They are found when they are first asked for, in some milliseconds, and
    kept: there are as many as markers have bytes.

    Args:
        tokens: bytes of every token.
    """

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._masks: dict[tuple[bytes, bytes, bool], TokenMask] = {}

    def bytes_of(self, *token_ids: int) -> bytes:
        """Bytes of these tokens."""
        return b"".join(map(self._tokens.of, token_ids))

    def only(self, token_ids: Iterable[int]) -> TokenMask:
        """These tokens."""
        mask = np.zeros(-(-len(self._tokens) // 32), np.uint32)
        for token_id in token_ids:
            mask[token_id // 32] |= np.uint32(1 << token_id % 32)
        return mask

    def newlines(self) -> TokenMask:
        """Tokens of nothing but newlines."""
        return self._known((NEWLINES, b"", False), lambda data: not data.strip(NEWLINES))

    def completing(self, marker: bytes, partial: bytes) -> TokenMask:
        """Tokens with which a marker is complete, after `partial` of it."""
        return self._known((marker, partial, False), lambda data: marker in partial + data)

    def overrunning(self, marker: bytes, partial: bytes) -> TokenMask:
        """Tokens with which a marker is complete, after `partial` of it, and which go on behind it."""
        return self._known((marker, partial, True), lambda data: bool((partial + data).partition(marker)[2]))

    def _known(self, key: tuple[bytes, bytes, bool], belongs: Callable[[bytes], bool]) -> TokenMask:
        """The tokens whose bytes belong, of those with the last byte of the marker, the first part of the key."""
        mask = self._masks.get(key)
        if mask is None:
            mask = self.only(each for each in self._with(key[0][-1]) if belongs(self._tokens.of(each)))
            mask.flags.writeable = False
            self._masks[key] = mask
        return mask

    def _with(self, byte: int) -> list[int]:
        """Tokens that have this byte."""
        data, ends = self._layout
        owners = np.searchsorted(ends, np.flatnonzero(data == byte), side="right")
        return [int(each) for each in np.unique(owners)]

    @cached_property
    def _layout(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The bytes of all tokens behind each other, and where each ends."""
        table = [self._tokens.of(token_id) for token_id in range(len(self._tokens))]
        return np.frombuffer(b"".join(table), np.uint8), np.cumsum(np.fromiter(map(len, table), np.int64, len(table)))


class _Spending(NamedTuple):
    """After some tokens. The same object as after the token before where that says it, since there is one for each.

    `spent` is what of the budget was used up before token `since`, from which on it is being used up if the place is
    REASONING. `closing` counts the tokens of the closing text that are there; None where it is not being written.
    """

    reading: Reading
    spent: int = 0
    since: int = 0
    closing: int | None = None


class ThinkingBudget:
    """Has the block of reasoning closed once its budget is used up.

    The model may write anything before. Afterwards it may not open another block, though it may open a first one even
    with a budget of 0: kept from that, a model would reason in its answer.

    Args:
        spec: of the request.
        budget: of it.
        vocabulary: of the model.

    Raises:
        InvalidRequestError: the closing text of the request does not have the end marker in it.
    """

    complete = False

    def __init__(self, spec: ReasoningSpec, budget: int, vocabulary: Vocabulary) -> None:
        self._markers = ReasoningMarkers(spec)
        self._budget = budget
        self._closing = spec.closing_token_ids
        self._vocabulary = vocabulary
        if self._markers.end not in vocabulary.bytes_of(*self._closing):
            raise InvalidRequestError(
                f"closing_token_ids do not spell '{spec.end}', which closes the reasoning.", param="closing_token_ids"
            )
        self._states = [self._checked(_Spending(self._markers.first), 0)]

    def is_free(self, ahead: int = 0) -> bool:
        """As `TokenConstraint.is_free`."""
        state = self._states[-1]
        if state.closing is not None:
            return False
        match state.reading.place:
            case Place.ANSWER:
                return True
            case Place.REASONING:
                return self._left(state, len(self._states) - 1) > ahead
            case Place.OPENING if ahead:  # the first of those tokens may open a block
                return self._budget - state.spent >= ahead
            case _:
                return not self._used_up(state)

    def mask(self) -> TokenMask:
        """As `TokenConstraint.mask`."""
        state = self._states[-1]
        if state.closing is not None:
            return self._vocabulary.only(self._closing[state.closing : state.closing + 1])
        if self.is_free():
            return ~self._vocabulary.only(())
        return ~self._vocabulary.completing(self._markers.start, state.reading.partial)

    def advance(self, token_id: int) -> None:
        """As `TokenConstraint.advance`."""
        state, num_tokens = self._states[-1], len(self._states)
        reading, _ = self._markers.follow(state.reading, self._vocabulary.bytes_of(token_id))
        was, now = state.reading.place is Place.REASONING, reading.place is Place.REASONING
        after = state._replace(reading=reading)
        if state.closing is not None:
            done = state.closing + 1 == len(self._closing)
            after = after._replace(closing=None if done else state.closing + 1, spent=self._budget)
        elif was and (not now or reading.closed > state.reading.closed):
            after = after._replace(spent=state.spent + num_tokens - state.since, since=num_tokens)
        elif now and not was:
            after = after._replace(since=num_tokens)
        after = self._checked(after, num_tokens)
        self._states.append(state if after == state else after)

    def rewind(self, count: int) -> None:
        """As `TokenConstraint.rewind`."""
        del self._states[len(self._states) - count :]

    def _left(self, state: _Spending, num_tokens: int) -> int:
        """Tokens of reasoning that may still come, while the place is REASONING."""
        return self._budget - state.spent - (num_tokens - state.since)

    def _used_up(self, state: _Spending) -> bool:
        """Whether there has been reasoning and may not be any more."""
        return state.reading.closed > 0 and state.spent >= self._budget

    def _checked(self, state: _Spending, num_tokens: int) -> _Spending:
        """The state after so many tokens; with its budget used up the closing text begins."""
        reasoning = state.reading.place is Place.REASONING and state.closing is None
        return state._replace(closing=0) if reasoning and self._left(state, num_tokens) <= 0 else state


class _Phase(enum.Enum):
    """What comes next where a grammar waits."""

    OPENING = enum.auto()  # the start marker, or the answer at once
    STARTING = enum.auto()  # the rest of the start marker
    REASONING = enum.auto()
    BREAK = enum.auto()  # newlines, which are no part of the answer, or the answer
    ANSWER = enum.auto()


class _Guiding(NamedTuple):
    """After some tokens: so many of the start marker are there, and so many were told to the grammar."""

    phase: _Phase
    reading: Reading
    started: int = 0
    guided: int = 0


class GrammarAfterThinking:
    """A grammar that begins with the answer.

    Until then the answer cannot end. Tokens that would run on behind the end marker are out, so that the grammar is
    told of whole tokens only. A block can be opened but once.

    Args:
        spec: of the request.
        grammar: of the answer; at its first token.
        ending: tokens that end an answer.
        vocabulary: of the model.
    """

    def __init__(
        self, spec: ReasoningSpec, grammar: TokenConstraint, ending: Iterable[int], vocabulary: Vocabulary
    ) -> None:
        self._markers = ReasoningMarkers(spec)
        self._start = spec.start_token_ids
        self._grammar = grammar
        self._ending = vocabulary.only(ending)
        self._vocabulary = vocabulary
        self._states = [_Guiding(_Phase.REASONING if spec.begun else _Phase.OPENING, self._markers.first)]

    @property
    def complete(self) -> bool:
        """As `TokenConstraint.complete`."""
        return self._states[-1].phase is _Phase.ANSWER and self._grammar.complete

    def is_free(self, ahead: int = 0) -> bool:  # noqa: ARG002 - the protocol's
        """As `TokenConstraint.is_free`: never."""
        return False

    def mask(self) -> TokenMask:
        """As `TokenConstraint.mask`."""
        state = self._states[-1]
        match state.phase:
            case _Phase.OPENING:
                return self._grammar.mask() | self._vocabulary.only(self._start[:1])
            case _Phase.STARTING:
                return self._vocabulary.only(self._start[state.started : state.started + 1])
            case _Phase.REASONING:
                overrunning = self._vocabulary.overrunning(self._markers.end, state.reading.partial)
                return ~(self._ending | overrunning)
            case _Phase.BREAK:
                return self._grammar.mask() | self._vocabulary.newlines()
            case _Phase.ANSWER:
                return self._grammar.mask()

    def advance(self, token_id: int) -> None:
        """As `TokenConstraint.advance`."""
        state = self._states[-1]
        if state.phase is _Phase.STARTING or (state.phase is _Phase.OPENING and self._opens(token_id)):
            begun = state.started + 1 == len(self._start)
            phase = _Phase.REASONING if begun else _Phase.STARTING
            reading = Reading(Place.REASONING) if begun else state.reading
            after = _Guiding(phase, reading, state.started + 1)
        elif state.phase is _Phase.REASONING:
            reading, _ = self._markers.follow(state.reading, self._vocabulary.bytes_of(token_id))
            phase = _Phase.REASONING if reading.place is Place.REASONING else _Phase.BREAK
            after = state._replace(phase=phase, reading=reading)
        elif state.phase is _Phase.BREAK and self._breaks(token_id):
            after = state._replace(phase=_Phase.ANSWER)
        else:
            self._grammar.advance(token_id)
            after = state._replace(phase=_Phase.ANSWER, guided=state.guided + 1)
        self._states.append(state if after == state else after)

    def rewind(self, count: int) -> None:
        """As `TokenConstraint.rewind`."""
        guided = self._states[-1].guided
        del self._states[len(self._states) - count :]
        self._grammar.rewind(guided - self._states[-1].guided)

    def _opens(self, token_id: int) -> bool:
        """Whether the token begins the start marker. One that is but a part of it may begin an answer as well."""
        return token_id in self._start[:1] and (len(self._start) == 1 or not _has(self._grammar.mask(), token_id))

    def _breaks(self, token_id: int) -> bool:
        return _has(self._vocabulary.newlines(), token_id) and not _has(self._grammar.mask(), token_id)


class Both:
    """Two constraints at once.

    Args:
        first, second: the two.
    """

    def __init__(self, first: TokenConstraint, second: TokenConstraint) -> None:
        self._parts = first, second

    @property
    def complete(self) -> bool:
        """As `TokenConstraint.complete`."""
        return any(part.complete for part in self._parts)

    def is_free(self, ahead: int = 0) -> bool:
        """As `TokenConstraint.is_free`."""
        return all(part.is_free(ahead) for part in self._parts)

    def mask(self) -> TokenMask:
        """As `TokenConstraint.mask`."""
        first, second = self._parts
        if first.is_free():
            return second.mask()
        return first.mask() if second.is_free() else first.mask() & second.mask()

    def advance(self, token_id: int) -> None:
        """As `TokenConstraint.advance`."""
        for part in self._parts:
            part.advance(token_id)

    def rewind(self, count: int) -> None:
        """As `TokenConstraint.rewind`."""
        for part in self._parts:
            part.rewind(count)


def _has(mask: TokenMask, token_id: int) -> bool:
    return bool(mask[token_id // 32] >> np.uint32(token_id % 32) & np.uint32(1))
