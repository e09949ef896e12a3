"""From the logits of a step to one token per row.

A row's token is a function of that row's logits, of its own request and of (seed, choice, position): rows are worked on
one at a time, or all at once only by operations that treat each row alone.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch

from engine.errors import InvalidLogitsError
from engine.sampling.batch import SamplingBatch
from engine.sampling.draw import draw_token
from engine.sampling.logprobs import row_logprobs
from engine.sampling.processors import process_logits
from engine.scheduling.batch import SampledToken
from engine.scheduling.sequence import Sequence

Float32Array = npt.NDArray[np.float32]


class Sampler:
    """Chooses the next token of each row.

    Args:
        end_token_ids: the model's own end tokens, which `min_tokens` forbids for a while.
    """

    def __init__(self, end_token_ids: Seq[int] = ()) -> None:
        self._end_token_ids = tuple(end_token_ids)

    def sample(self, logits: torch.Tensor, sequences: Seq[Sequence]) -> list[SampledToken]:
        """Choose one token per row.

        Args:
            logits: float32 [L, V]; not changed.
            sequences: the sequence of each row.

        Returns:
            L tokens; with log-probabilities of the unchanged logits where the request asks for them.

        Raises:
            InvalidLogitsError: rows contain NaN or infinity, or nothing but forbidden tokens; it names their requests.
            ConstraintError: a request's constraint leaves no token.
        """
        raw: Float32Array = logits.numpy(force=True)
        batch = SamplingBatch.of(sequences)
        processed = {row: self._processed(raw[row], sequences[row]) for row in batch.processed}
        tokens, invalid = _likeliest(raw, processed)
        if invalid:
            raise InvalidLogitsError(tuple(dict.fromkeys(sequences[row].request.request_id for row in invalid)))
        for row, uniform in zip(batch.drawn, batch.uniforms.tolist(), strict=True):
            tokens[row] = draw_token(processed.get(row, raw[row]), sequences[row].sampling, uniform)
        sampled = [SampledToken(token, None, ()) for token in tokens]
        for row in batch.reported:
            count = sequences[row].sampling.logprobs or 0
            sampled[row] = SampledToken(tokens[row], *row_logprobs(raw[row], tokens[row], count))
        return sampled

    def _processed(self, logits: Float32Array, sequence: Sequence) -> Float32Array:
        changed = logits.copy()
        process_logits(changed, sequence, self._end_token_ids)
        return changed


def _likeliest(raw: Float32Array, processed: dict[int, Float32Array]) -> tuple[list[int], list[int]]:
    """The likeliest token of each row, the lowest id among equals; and the rows that have no finite largest logit.

    NaN anywhere in a row shows there, since `argmax` and `max` prefer it.
    """
    tokens = raw.argmax(axis=1)
    largest = raw[np.arange(len(raw)), tokens]
    for row, logits in processed.items():
        tokens[row] = logits.argmax()
        if np.isfinite(largest[row]):
            largest[row] = logits[tokens[row]]
    return tokens.tolist(), np.flatnonzero(~np.isfinite(largest)).tolist()
