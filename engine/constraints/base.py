"""What may act on one choice between two of its tokens: a protocol, so that the step loop knows no feature by name."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Ending(NamedTuple):
    """The text is to end here.

    `stop` is what matched; of the bytes just given the first `end` belong to the text up to and including the match,
    of which the last `cut` are to be taken away. `cut` may exceed `end`: it never exceeds what was held back plus
    `end`.
    """

    stop: str
    end: int
    cut: int


class Constraint(Protocol):
    """Follows the text of one choice."""

    @property
    def held(self) -> int:
        """Latest bytes of the text that may still be taken away, and so must not be shown yet."""
        ...

    def advance(self, data: bytes, num_generated: int) -> Ending | None:
        """Take in the bytes of the `num_generated`-th token; says whether the text ends within them."""
        ...
