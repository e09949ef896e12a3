"""Runs a scheduled step on the model: build its input, forward, sample."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.execution.batch_builder import BatchBuilder, ModelInput
from engine.execution.device_errors import naming_device_errors
from engine.execution.paged_attention import PagedAttention
from engine.execution.warm_up import largest_step
from engine.model.loader import LoadedModel
from engine.sampling.prompt_tokens import as_readings, asked_tokens, score_tokens
from engine.sampling.sampler import Sampler
from engine.scheduling.batch import PromptReading, SampledToken, ScheduledBatch, StepOutcome
from engine.scheduling.sequence import Sequence

NO_STATES = torch.empty(0, 0)


class ModelRunner:
    """The real `engine.scheduling.runner.Runner`.

    Tokens are chosen on the host, so a step is done when `submit` returns, and its handle is its result.

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
        self._latest: dict[Sequence, int] = {}  # what the step submitted last has sampled

    @property
    def pipeline_depth(self) -> int:
        """Steps worth submitting beside the one that is waited for: none, since each is done when it is submitted."""
        return 0

    @property
    def counts_in_flight(self) -> bool:
        """Whether penalties take tokens into account that the host does not know yet."""
        return False

    @property
    def max_biased_tokens(self) -> int:
        """As of `ModelInfo`; so is the next."""
        return 0

    @property
    def max_stop_tokens(self) -> int:
        return 0

    def submit(self, batch: ScheduledBatch) -> StepOutcome:
        """Compute the step's keys, values and logits, choose the next tokens, and read the prompts that ask for it.

        Raises:
            InvalidLogitsError: requests whose logits are unusable; the step may be submitted again without them.
            DeviceError: the device is lost.
        """
        items = batch.items
        with naming_device_errors():
            step = self._builder.build(batch, self._latest)
            logits = self._forward(batch, step)
            sampled = iter(self._sampler.sample(logits, [item.sequence for item in items if item.sample]))
            readings = self._read(batch, step)
        tokens = [next(sampled) if item.sample else None for item in items]
        self._latest = {
            item.sequence: token.token_id for item, token in zip(items, tokens, strict=True) if token is not None
        }
        return StepOutcome(tokens, readings)

    def collect(self, handle: StepOutcome) -> StepOutcome:
        """What the step gave when it was submitted."""
        return handle

    def warm_up(self) -> None:
        """Make the largest step there can be, so that whatever is made on first use exists before the first request.

        It leaves keys and values in blocks that nobody owns yet.
        """
        cache = self._cache
        step = largest_step(self._max_tokens, self._max_seqs, self._max_len, cache.num_blocks, cache.block_size)
        model_input = self._builder.build(step, {})
        logits = self._model.warm_up(model_input.forward, self._attention(model_input))
        # what the model says to made-up tokens may be anything; how much there is to choose from is what matters
        self._sampler.sample(torch.zeros_like(logits), [item.sequence for item in step.items])

    def _forward(self, batch: ScheduledBatch, step: ModelInput) -> torch.Tensor:
        """Logits, float32 [sampling items, vocabulary], valid until the next step."""
        if batch.copies:
            self._cache.copy_blocks(batch.copies)
        return self._model.forward(step.forward, self._attention(step))

    def _read(self, batch: ScheduledBatch, step: ModelInput) -> tuple[PromptReading, ...]:
        """As many rows at a time as a step samples from at most: logits are wide, and there is room for so many."""
        rows = step.read_rows
        asked = asked_tokens(batch)
        scored: list[SampledToken] = []
        for start in range(0, len(asked), self._max_seqs):
            part = slice(start, start + self._max_seqs)
            scored += score_tokens(self._model.logits_at(rows[part]), asked[part])
        states = self._model.states_at(step.state_rows) if len(step.state_rows) else NO_STATES
        return as_readings(batch, scored, states.float().numpy(force=True))

    def _attention(self, step: ModelInput) -> PagedAttention:
        return PagedAttention(self._cache, self._backend, step.attention)
