"""Stop strings, looked for on bytes, so that it does not matter how the text is cut into tokens.

All strings are followed at once by one automaton (A. V. Aho and M. J. Corasick, "Efficient string matching: an aid to
bibliographic search", 1975). Its state is the longest end of the text that begins some stop string, which is also what
has to be held back.

The match that is complete first wins, for then nothing more need be generated; of those that are complete at the same
byte the longest, which begins first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.constraints.base import Ending
from engine.types import SamplingParams


class StopStrings:
    """The automaton for a set of stop strings; built once per request and shared by its choices.

    States are numbered from 0, the empty one. Lists are indexed by state.

    Attributes:
        following: state after each further byte that continues a stop string.
        shorter: state of the next shorter end of the text that begins a stop string.
        complete: longest stop string the text ends with, if it ends with one.
        held: length of the longest end of the text that properly begins a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.following: list[dict[int, int]] = [{}]
        self.complete: list[str | None] = [None]
        self.shorter: list[int] = [0]
        self.held: list[int] = [0]
        for stop in stops:
            self.complete[self._add(stop.encode())] = stop
        self._link()

    def next(self, state: int, byte: int) -> int:
        """State after one more byte of text."""
        while state and byte not in self.following[state]:
            state = self.shorter[state]
        return self.following[state].get(byte, 0)

    def _add(self, pattern: bytes) -> int:
        state = 0
        for byte in pattern:
            if byte not in self.following[state]:
                self.following[state][byte] = len(self.following)
                self.following.append({})
                self.complete.append(None)
                self.shorter.append(0)
                self.held.append(0)
            state = self.following[state][byte]
        return state

    def _link(self) -> None:
        """Fill what depends on shorter states, breadth first, so that those are filled before."""
        queue = deque((child, byte, 0, 1) for byte, child in self.following[0].items())
        while queue:
            state, byte, parent, depth = queue.popleft()
            shorter = self.next(self.shorter[parent], byte) if parent else 0
            self.shorter[state] = shorter
            self.complete[state] = self.complete[state] or self.complete[shorter]
            # a state nothing continues is a whole stop string: what can still grow is one of its ends
            self.held[state] = depth if self.following[state] else self.held[shorter]
            queue.extend((child, each, state, depth + 1) for each, child in self.following[state].items())


class StopMatcher:
    """Looks for stop strings in the text of one choice.

    Args:
        strings: what to look for.
        min_tokens: a match that is complete within this many tokens does not count, though one may begin there.
        include: keep the match in the text; nothing then needs to be held back.
    """

    def __init__(self, strings: StopStrings, *, min_tokens: int = 0, include: bool = False) -> None:
        self._strings = strings
        self._min_tokens = min_tokens
        self._include = include
        self._state = 0

    @property
    def held(self) -> int:
        """Latest bytes of the text that properly begin a stop string."""
        return 0 if self._include else self._strings.held[self._state]

    def advance(self, data: bytes, num_generated: int) -> Ending | None:
        """Take in the bytes of the `num_generated`-th token; says whether a stop string is complete within them."""
        strings, state = self._strings, self._state
        for end, byte in enumerate(data, start=1):
            state = strings.next(state, byte)
            stop = strings.complete[state]
            if stop is not None and num_generated > self._min_tokens:
                return Ending(stop, end, 0 if self._include else len(stop.encode()))
        self._state = state
        return None


def stop_strings(sampling: SamplingParams) -> StopStrings | None:
    """The automaton of a request; None if it has no stop strings."""
    return StopStrings(sampling.stop_strings) if sampling.stop_strings else None
