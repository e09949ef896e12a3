"""Which rows of a step need which kind of work, with parameter arrays only where something is switched on."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from engine.sampling.random import Float64Array, uniforms
from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """The rows of logits of one step, told apart by what has to be done with them.

    Attributes:
        sequences: the sequence of each row.
        processed: rows whose logits are changed before a token is chosen.
        drawn: rows whose token is drawn at random; all others take the likeliest.
        uniforms: float64 [len(drawn)] the random number of each drawn row.
        reported: rows that give log-probabilities.
    """

    sequences: tuple[Sequence, ...]
    processed: tuple[int, ...]
    drawn: tuple[int, ...]
    uniforms: Float64Array
    reported: tuple[int, ...]

    @classmethod
    def of(cls, sequences: Seq[Sequence]) -> SamplingBatch:
        """Sort out the rows. The token to be chosen for a row stands at position `num_tokens`."""
        drawn = tuple(row for row, each in enumerate(sequences) if not each.sampling.greedy)
        return cls(
            sequences=tuple(sequences),
            processed=tuple(row for row, each in enumerate(sequences) if _changes_logits(each)),
            drawn=drawn,
            uniforms=uniforms(
                [sequences[row].seed for row in drawn],
                [sequences[row].choice for row in drawn],
                [sequences[row].num_tokens for row in drawn],
            ),
            reported=tuple(row for row, each in enumerate(sequences) if each.sampling.logprobs is not None),
        )


def forbids_ending(sequence: Sequence) -> bool:
    """Whether the answer is still too short to end."""
    return sequence.num_sampled < sequence.sampling.min_tokens


def _changes_logits(sequence: Sequence) -> bool:
    params = sequence.sampling
    changed = bool(params.logit_bias) or params.has_penalties or sequence.constrained
    return changed or forbids_ending(sequence)
