"""A toy in place of the model: the next token is a function of everything before it.

It keeps a cache of its own, indexed by block and offset, and reads the past from there alone. A block handed to two
owners, freed too early, or reused for the wrong prefix therefore changes tokens, just as it would with a real model.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from engine.errors import InvalidLogitsError
from engine.scheduling.batch import PromptReading, SampledToken, ScheduledBatch, ScheduledSequence, StepOutcome
from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest


class ToyStep(NamedTuple):
    """A step that has been submitted."""

    batch: ScheduledBatch
    outcome: StepOutcome


class ToyRunner:
    """A `Runner`. It insists that steps are collected in the order in which they were submitted.

    Attributes:
        batches: the steps that were submitted.
        slots: the token in each slot of the cache.
        references: owners of a block; where this is given, only what has one owner may be written to.

    Args:
        block_size: tokens per block.
        vocab_size: tokens are below this.
        max_num_batched_tokens: what a step may not exceed.
        max_num_seqs: what a step may not exceed.
        breaks_on: raises for a step with a request of which this is true.
        invalid_for: gives no usable logits for requests of which this is true.
    """

    def __init__(
        self,
        block_size: int,
        vocab_size: int,
        *,
        max_num_batched_tokens: int = 1 << 30,
        max_num_seqs: int = 1 << 30,
        breaks_on: Callable[[GenerationRequest], bool] = lambda _: False,
        invalid_for: Callable[[GenerationRequest], bool] = lambda _: False,
    ) -> None:
        self.batches: list[ScheduledBatch] = []
        self.slots: dict[int, int] = {}
        self._block_size = block_size
        self._vocab_size = vocab_size
        self._max_tokens = max_num_batched_tokens
        self._max_seqs = max_num_seqs
        self._breaks_on = breaks_on
        self._invalid_for = invalid_for
        self.references: Callable[[int], int] | None = None
        self._latest: dict[Sequence, int] = {}
        self._uncollected: deque[ToyStep] = deque()

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        assert 0 < len(batch.items) <= self._max_seqs
        assert 0 < batch.num_tokens <= self._max_tokens
        self.batches.append(batch)
        for item in batch.items:
            if self._breaks_on(item.sequence.request):
                raise RuntimeError("the toy is broken")
        self._copy(batch)
        for item in batch.items:
            assert item.start == item.sequence.num_computed
            assert item.sample == (item.end == item.sequence.num_tokens and item.sequence.samples)
            assert not item.void
            assert not (item.in_flight and item.sequence.sampling.has_penalties)
            assert not (item.in_flight and item.sequence.constrained)
            for position, token in zip(range(item.start, item.end), self._tokens(item), strict=True):
                self._check_ownership(item, position)
                self.slots[self._slot(item, position)] = token
        sampled = [self._next(item) if item.sample else None for item in batch.items]
        readings = [self._read(index, item) for index, item in enumerate(batch.items) if item.reads]
        step = ToyStep(batch, StepOutcome(sampled, tuple(readings)))
        self._latest = {
            item.sequence: token.token_id for item, token in zip(batch.items, sampled, strict=True) if token is not None
        }
        self._uncollected.append(step)
        return step

    def collect(self, handle: ToyStep) -> StepOutcome:
        assert handle is self._uncollected.popleft()
        requests = [item.sequence.request for item in handle.batch.items]
        invalid = {request.request_id for request in requests if self._invalid_for(request)}
        if invalid:
            self._uncollected.clear()
            raise InvalidLogitsError(tuple(sorted(invalid)))
        return handle.outcome

    def _tokens(self, item: ScheduledSequence) -> list[int]:
        if not item.in_flight:
            return item.sequence.token_ids[item.start : item.end]
        assert (item.start, item.num_tokens) == (item.sequence.num_tokens - 1, 1)
        return [self._latest[item.sequence]]

    def _copy(self, batch: ScheduledBatch) -> None:
        size = self._block_size
        assert len({copy.target for copy in batch.copies}) == len(batch.copies)
        read = [(copy.target, offset, copy.source * size + offset) for copy in batch.copies for offset in range(size)]
        values = {target * size + offset: self.slots.get(slot, -1) for target, offset, slot in read}
        self.slots.update(values)

    def _check_ownership(self, item: ScheduledSequence, position: int) -> None:
        if self.references is not None:
            assert self.references(item.sequence.block_table[position // self._block_size]) == 1

    def _slot(self, item: ScheduledSequence, position: int) -> int:
        block, offset = divmod(position, self._block_size)
        return item.sequence.block_table[block] * self._block_size + offset

    def _read(self, index: int, item: ScheduledSequence) -> PromptReading:
        """How likely the toy finds the tokens of a prompt: a function of all before them, and of themselves."""
        sequence, tokens = item.sequence, []
        if item.pooled:
            known = [self.slots[self._slot(item, each)] for each in range(item.end)]
            states = [toy_state(known[: position + 1]) for position in item.pooled]
            return PromptReading(index, item.reads, states=np.array(states, np.float32))
        count = sequence.sampling.prompt_logprobs or 0
        for position in item.scored:
            past = [self.slots[self._slot(item, each)] for each in range(position + 1)]
            first = toy_token(past, 0, 0, self._vocab_size)
            top = tuple(((first + rank) % self._vocab_size, -float(rank)) for rank in range(count))
            token = sequence.token_ids[position + 1]
            tokens.append(SampledToken(token, -float((token - first) % self._vocab_size), top))
        return PromptReading(index, item.reads, tuple(tokens))

    def _next(self, item: ScheduledSequence) -> SampledToken:
        sequence = item.sequence
        past = [self.slots[self._slot(item, position)] for position in range(item.end)]
        token = toy_token(past, sequence.seed, sequence.choice, self._vocab_size)
        if sequence.constraint is not None and sequence.constrained:
            mask = sequence.constraint.mask()
            allowed = [each for each in range(self._vocab_size) if int(mask[each // 32]) >> each % 32 & 1]
            token = allowed[token % len(allowed)]
        if sequence.sampling.logprobs is None:
            return SampledToken(token, None, ())
        return SampledToken(token, -float(token), tuple((each, -float(each)) for each in range(token)))


def toy_state(past: list[int]) -> list[float]:
    """The toy's hidden state after `past`."""
    return [float(toy_token(past, seed, 0, 1000)) for seed in range(3)]


def toy_token(past: list[int], seed: int, choice: int, vocab_size: int) -> int:
    """The token the toy gives after `past`."""
    digest = hashlib.blake2b(repr((past, seed, choice)).encode(), digest_size=4).digest()
    return int.from_bytes(digest) % vocab_size
