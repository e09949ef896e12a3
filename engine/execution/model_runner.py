"""Runs a scheduled step on the model: build its input, forward, sample."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch

from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.execution.batch_builder import BatchBuilder
from engine.execution.paged_attention import PagedAttention
from engine.execution.warm_up import largest_step
from engine.model.loader import LoadedModel
from engine.sampling.sampler import Sampler
from engine.scheduling.batch import SampledToken, ScheduledBatch


@dataclass(frozen=True, slots=True)
class StepHandle:
    """A step under way.

    Attributes:
        batch: what is computed.
        logits: float32 [sampling items, vocabulary].
    """

    batch: ScheduledBatch
    logits: torch.Tensor


class ModelRunner:
    """The real `engine.scheduling.runner.Runner`.

    Args:
        loaded: the model and the backend it runs on.
        cache: where keys and values are kept.
        config: bounds of a step.
        end_token_ids: tokens that end an answer, which `min_tokens` forbids for a while.
    """

    def __init__(self, loaded: LoadedModel, cache: PagedKVCache, config: EngineConfig, end_token_ids: Seq[int]) -> None:
        self._model = loaded.model
        self._backend = loaded.model.backend
        self._cache = cache
        self._max_tokens = config.max_num_batched_tokens
        self._max_seqs = min(config.max_num_seqs, config.max_num_batched_tokens)
        self._max_len = config.max_model_len or loaded.config.max_position_embeddings
        self._builder = BatchBuilder(
            max_tokens=self._max_tokens,
            max_seqs=self._max_seqs,
            max_blocks=min(cache.num_blocks, -(-self._max_len // cache.block_size)),
            block_size=cache.block_size,
            device=self._backend.device,
        )
        self._sampler = Sampler(end_token_ids)

    def submit(self, batch: ScheduledBatch) -> StepHandle:
        """Compute the step's keys, values and logits. One step at a time: collect it before submitting the next."""
        model_input = self._builder.build(batch)
        attention = PagedAttention(self._cache, self._backend, model_input.attention)
        return StepHandle(batch, self._model.forward(model_input.forward, attention))

    def collect(self, handle: StepHandle) -> list[SampledToken | None]:
        """Choose the next tokens: one entry per item of the batch, None where the item does not sample.

        Raises:
            InvalidLogitsError: requests whose logits are unusable; the step may be submitted again without them.
        """
        items = handle.batch.items
        sampled = iter(self._sampler.sample(handle.logits, [item.sequence for item in items if item.sample]))
        return [next(sampled) if item.sample else None for item in items]

    def warm_up(self) -> None:
        """Run the largest step there can be, so that whatever is made on first use exists before the first request.

        It leaves keys and values in blocks that nobody owns yet.
        """
        cache = self._cache
        self.submit(largest_step(self._max_tokens, self._max_seqs, self._max_len, cache.num_blocks, cache.block_size))
