"""What a step is asked about prompts besides what to sample, and answering it on the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from engine.errors import InvalidLogitsError
from engine.sampling.logprobs import row_logprobs
from engine.scheduling.batch import PromptReading, SampledToken, ScheduledBatch

States = npt.NDArray[np.float32]


class AskedToken(NamedTuple):
    """A token of a prompt whose log-probability is wanted, with the likeliest ones beside it."""

    token_id: int
    alternatives: int
    request_id: str


def asked_tokens(batch: ScheduledBatch) -> list[AskedToken]:
    """The tokens after the positions at which the batch reads logits, in their order."""
    return [
        AskedToken(item.sequence.token_ids[position + 1], item.sequence.sampling.prompt_logprobs or 0, request_id)
        for item in batch.items
        for request_id in (item.sequence.request.request_id,)
        for position in item.scored
    ]


def score_tokens(logits: torch.Tensor, asked: Iterable[AskedToken]) -> Iterator[SampledToken]:
    """Log-probabilities of tokens, each by its row of logits alone.

    Args:
        logits: float32 [R, V], as the model gave them; not changed.
        asked: R tokens.

    Raises:
        InvalidLogitsError: a row contains NaN or infinity; it names its request.
    """
    for row, token in zip(logits.numpy(force=True), asked, strict=True):
        if not np.isfinite(row.max()):
            raise InvalidLogitsError((token.request_id,))
        yield SampledToken(token.token_id, *row_logprobs(row, token.token_id, token.alternatives))


def as_readings(batch: ScheduledBatch, tokens: Iterable[SampledToken], states: States) -> tuple[PromptReading, ...]:
    """What was read, by items of the batch.

    Args:
        batch: the step.
        tokens: those that were asked for, in their order.
        states: float32 [S, H] hidden states at all positions that are pooled, in their order; they are copied.

    Raises:
        InvalidLogitsError: a state contains NaN or infinity; it names its request.
    """
    rest = iter(tokens)
    readings = []
    for index, item in enumerate(batch.items):
        if item.scored:
            readings.append(PromptReading(index, item.reads, tuple(islice(rest, len(item.reads)))))
        elif item.pooled:
            own, states = states[: len(item.reads)].copy(), states[len(item.reads) :]
            if not np.isfinite(own).all():
                raise InvalidLogitsError((item.sequence.request.request_id,))
            readings.append(PromptReading(index, item.reads, states=own))
    return tuple(readings)
