"""What a request says about turning its prompt into one vector."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.errors import InvalidRequestError


class PoolingKind(enum.StrEnum):
    """Which of a prompt's hidden states make its vector."""

    MEAN = "mean"  # of all its tokens
    LAST = "last"  # of its last token alone


@dataclass(frozen=True, slots=True)
class PoolingParams:
    """How the hidden states of a prompt, after the model's last norm, become one vector of length 1.

    Attributes:
        kind: which states; `mean` or `last`.
        dimensions: the first so many of their features; None for all.

    Raises:
        InvalidRequestError: there is no such kind, or `dimensions` is not positive.
    """

    kind: PoolingKind = PoolingKind.MEAN
    dimensions: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in tuple(PoolingKind):
            raise InvalidRequestError(f"kind must be 'mean' or 'last', not {self.kind!r}.", param="pooling")
        object.__setattr__(self, "kind", PoolingKind(self.kind))
        if self.dimensions is not None and self.dimensions < 1:
            raise InvalidRequestError(f"dimensions must be at least 1, not {self.dimensions}.", param="dimensions")

    def first_read(self, num_prompt: int) -> int:
        """Position of the first token whose state counts."""
        return 0 if self.kind is PoolingKind.MEAN else num_prompt - 1
