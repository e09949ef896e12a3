"""What may act on one choice between two of its tokens: a protocol, so that the step loop knows no feature by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:  # the step loop itself has no use for numpy
    import numpy as np
    import numpy.typing as npt

TokenMask: TypeAlias = "npt.NDArray[np.uint32]"
"""A set of tokens, uint32 [ceil(V / 32)]: token i is in it if bit i % 32 of word i // 32 is set."""


class Ending(NamedTuple):
    """The text is to end here.

    `stop` is what matched; of the bytes just given the first `end` belong to the text up to and including the match,
    of which the last `cut` are to be taken away. `cut` may exceed `end`, and `end` be negative, where the match lies in
    bytes given before: it never reaches beyond what was held back.
    """

    stop: str
    end: int
    cut: int


class TokenConstraint(Protocol):
    """Decides which tokens one choice may have next. Its state is what it was told, so that nothing but the tokens
    matters: not how they were computed, nor whether their blocks were lost meanwhile.
    """

    @property
    def complete(self) -> bool:
        """Whether the answer is whole and nothing can follow, not even a wish to go on."""
        ...

    def is_free(self, ahead: int = 0) -> bool:
        """Whether any token may come next, after `ahead` tokens of which it has not been told, whatever they are.

        Then no mask needs to be asked for.
        """
        ...

    def mask(self) -> TokenMask:
        """Tokens that may come next; end tokens among them where the answer may end.

        Raises:
            ConstraintError: it cannot tell any more; this request has to be given up.
        """
        ...

    def advance(self, token_id: int) -> None:
        """Take in the next token of the answer, one of the mask; end and stop tokens are none."""
        ...

    def rewind(self, count: int) -> None:
        """Forget the latest `count` tokens."""
        ...


class CompiledGrammar(Protocol):
    """A grammar before the first token."""

    def constraint(self, request_id: str = "", stop_token_ids: Sequence[int] = ()) -> TokenConstraint:
        """The grammar for one choice.

        Args:
            request_id: of the request, for errors.
            stop_token_ids: tokens that may end an answer besides the model's own.
        """
        ...


class Constraint(Protocol):
    """Follows the text of one choice."""

    @property
    def held(self) -> int:
        """Latest bytes of the text that may still be taken away, and so must not be shown yet."""
        ...

    def advance(self, data: bytes, num_generated: int) -> Ending | None:
        """Take in the bytes of the `num_generated`-th token; says whether the text ends within them."""
        ...
