"""A made-up step as large as a real one can be."""

from __future__ import annotations

from engine.scheduling.batch import ScheduledBatch, ScheduledSequence
from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest, SamplingParams

HARDEST = SamplingParams(temperature=1, top_p=0.5, repetition_penalty=2, min_tokens=1, logprobs=20)
"""Sampling that works on every copy of the logits there can be."""


def largest_step(max_tokens: int, max_seqs: int, max_len: int, num_blocks: int, block_size: int) -> ScheduledBatch:
    """A step with as many tokens, and as many sequences that sample, as the budget and the cache allow.

    The sequences share the tokens evenly and own different blocks.

    Args:
        max_tokens: token budget.
        max_seqs: most sequences.
        max_len: most tokens of one sequence.
        num_blocks: blocks of the cache.
        block_size: tokens per block.
    """
    num_seqs = min(max_seqs, max_tokens, num_blocks)
    blocks_each = num_blocks // num_seqs
    share, larger = divmod(max_tokens, num_seqs)
    longest = min(max_len, blocks_each * block_size)
    lengths = [min(share + (each < larger), longest) for each in range(num_seqs)]
    return ScheduledBatch(
        tuple(
            _item(length, list(range(each * blocks_each, (each + 1) * blocks_each)))
            for each, length in enumerate(lengths)
        )
    )


def _item(length: int, block_table: list[int]) -> ScheduledSequence:
    tokens = (0,) * length
    request = GenerationRequest("warm-up", tokens, HARDEST)
    sequence = Sequence(request, choice=0, seed=0, token_ids=list(tokens), block_table=block_table)
    return ScheduledSequence(sequence, start=0, num_tokens=length, sample=True)
