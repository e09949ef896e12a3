"""Changes to the logits of one row before a token is chosen, in this order:

1. `logit_bias` is added;
2. repetition penalty: logits of tokens seen in prompt or answer are divided by it where positive and multiplied where
   negative (Keskar et al., CTRL, 2019, as Hugging Face and vLLM have it);
3. frequency penalty times the number of occurrences in the answer, and presence penalty for tokens that occur in the
   answer at all, are subtracted;
4. while the answer is shorter than `min_tokens`, end tokens and stop tokens are forbidden;
5. tokens outside the mask of the sequence's constraint are forbidden.

Temperature and the cuts (top-k, top-p, min-p) come after these; `engine/sampling/sampler.py` has them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.constraints.base import TokenMask
from engine.errors import ConstraintError
from engine.sampling.batch import forbids_ending
from engine.scheduling.sequence import Sequence
from engine.types import SamplingParams

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def process_logits(logits: Float32Array, sequence: Sequence, end_token_ids: tuple[int, ...]) -> None:
    """Apply everything the request switches on, in place.

    Args:
        logits: float32 [V] of one row.
        sequence: whose next token is to be chosen.
        end_token_ids: the model's own end tokens.

    Raises:
        ConstraintError: no token is left that the constraint allows.
    """
    params = sequence.sampling
    if params.logit_bias:
        logits[list(params.logit_bias)] += np.fromiter(params.logit_bias.values(), np.float32)
    if params.has_penalties:
        tokens = np.array(sequence.token_ids, np.int64)
        _penalize_repetition(logits, tokens, params.repetition_penalty)
        _penalize_occurrences(logits, tokens[sequence.num_prompt :], params)
    if forbids_ending(sequence):
        logits[[*end_token_ids, *params.stop_token_ids]] = -np.inf
    if sequence.constraint is not None and sequence.constrained:
        _keep_allowed(logits, sequence.constraint.mask(), sequence.request.request_id)


def nothing_allowed(request_ids: tuple[str, ...]) -> ConstraintError:
    """The error of requests whose constraint leaves no token."""
    message = "No token is left: what the grammar allows here is forbidden by 'min_tokens', or by the model itself."
    return ConstraintError(message, request_ids)


def _keep_allowed(logits: Float32Array, mask: TokenMask, request_id: str) -> None:
    allowed = np.unpackbits(mask.view(np.uint8), count=len(logits), bitorder="little").view(np.bool_)
    logits[~allowed] = -np.inf
    if np.isneginf(logits[allowed]).all():
        raise nothing_allowed((request_id,))


def _penalize_repetition(logits: Float32Array, tokens: IntArray, penalty: float) -> None:
    if penalty == 1:
        return
    # repeated ids write the same value repeatedly, so they need not be made unique
    seen = logits[tokens]
    logits[tokens] = np.where(seen > 0, seen / np.float32(penalty), seen * np.float32(penalty))


def _penalize_occurrences(logits: Float32Array, generated: IntArray, params: SamplingParams) -> None:
    if params.presence_penalty == 0 and params.frequency_penalty == 0:
        return
    tokens, counts = np.unique(generated, return_counts=True)
    logits[tokens] -= np.float32(params.frequency_penalty) * counts.astype(np.float32)
    logits[tokens] -= np.float32(params.presence_penalty)
