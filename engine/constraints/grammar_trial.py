"""Trying a grammar out: what compiles may still become too complex, or too slow, after a few tokens."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from engine.constraints.base import CompiledGrammar, TokenConstraint
from engine.errors import ConstraintError, InvalidRequestError

WALKS = 4
STEPS = 100
"""Answers that are begun, and how many tokens each gets."""

SECONDS_PER_STEP = 0.03
"""What a step may take; a few may take longer, as one does that waits for the processor."""

MOST_SLOW_STEPS = 3


def try_grammar(
    grammar: CompiledGrammar,
    vocab_size: int,
    end_token_ids: Collection[int],
    clock: Callable[[], float] = time.thread_time,
) -> None:
    """Begin some answers of tokens drawn at random, always the same ones; they end only where they must.

    Args:
        grammar: to be tried.
        vocab_size: tokens of its vocabulary.
        end_token_ids: those of them that end an answer.
        clock: by which steps are measured, in seconds.

    Raises:
        InvalidRequestError: the grammar became too complex or too slow on the way.
    """
    going_on = np.ones(vocab_size, np.bool_)
    going_on[list(end_token_ids)] = False
    slow = 0
    for walk in range(WALKS):
        draw = random.Random(walk)
        constraint = grammar.constraint()
        for _ in range(STEPS):
            began = clock()
            if not _step(constraint, going_on, draw):
                break
            slow += clock() - began > SECONDS_PER_STEP
            if slow > MOST_SLOW_STEPS:
                raise InvalidRequestError(
                    "The grammar is too complex: it takes too long to tell which token may come next.", param="grammar"
                )


def _step(constraint: TokenConstraint, going_on: npt.NDArray[np.bool_], draw: random.Random) -> bool:
    """Give the answer one more token; False where it ends."""
    try:
        bits = np.unpackbits(constraint.mask().view(np.uint8), count=len(going_on), bitorder="little")
    except ConstraintError:
        raise InvalidRequestError(
            "The grammar is too complex, or leads to where no token of this model can go on.", param="grammar"
        ) from None
    allowed = np.flatnonzero(bits.view(np.bool_) & going_on)
    if not len(allowed):
        return False
    constraint.advance(int(allowed[draw.randrange(len(allowed))]))
    return not constraint.complete
