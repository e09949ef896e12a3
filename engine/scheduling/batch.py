"""What one step computes, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.cache.block import BlockCopy
from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """A sequence's share of a step: its tokens `start … start + num_tokens - 1`.

    Slots for all of them are in the sequence's block table already.

    Attributes:
        sequence: whose tokens they are.
        start: position of the first.
        num_tokens: how many.
        sample: the last of them is the sequence's last token, so that a new one is sampled after it.
        in_flight: the token, for it is one alone, is not known yet: it is the one that the step submitted before this
            one samples for the sequence. All others stand in `sequence.token_ids`.
        epoch: of the sequence when the step was scheduled.
        reads: those positions among them whose output the request wants by itself.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    sample: bool
    in_flight: bool = False
    epoch: int = 0
    reads: range = range(0)

    @property
    def end(self) -> int:
        """Position after the last."""
        return self.start + self.num_tokens

    @property
    def scored(self) -> range:
        """Those of the positions read whose logits are wanted."""
        return self.reads if self.sequence.request.pooling is None else range(0)

    @property
    def pooled(self) -> range:
        """Those of the positions read whose hidden state is wanted."""
        return range(0) if self.sequence.request.pooling is None else self.reads

    @property
    def void(self) -> bool:
        """Whether the sequence has ended or lost its blocks since; what the step did for it counts no more."""
        return self.epoch != self.sequence.epoch


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """All shares of one step, never empty; the token budget bounds the sum of their tokens.

    Attributes:
        items: the shares.
        copies: blocks of the cache to be copied before anything is computed.
    """

    items: tuple[ScheduledSequence, ...]
    copies: tuple[BlockCopy, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(item.num_tokens for item in self.items)


class SampledToken(NamedTuple):
    """The token at one place of a sequence, and its log-probabilities if the request asked for them.

    `logprob` is None when not asked for. `top` holds (token id, log-probability), likeliest first.
    """

    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


class PromptReading(NamedTuple):
    """What a step says of a prompt at the positions that an item reads.

    `item` is the item's index in the batch. Entry i of `tokens` is about the prompt's token at the position after
    `reads[i]`; or else row i of `states`, float32 [R, H], is the hidden state at that position.
    """

    item: int
    reads: range
    tokens: tuple[SampledToken, ...] = ()
    states: npt.NDArray[np.float32] | None = None


class StepOutcome(NamedTuple):
    """What a step gives back: one token per item of the batch, None where it does not sample; and what it read."""

    tokens: list[SampledToken | None]
    readings: tuple[PromptReading, ...] = ()
