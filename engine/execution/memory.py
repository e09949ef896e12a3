"""What a model will take of the memory there is: decided before anything large is allocated, and kept to afterwards.

Everything is known from config.json, the headers of the tensors and the settings. `quire plan` shows what is decided
here, and `build_engine` allocates it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cache.kv_format import KVFormat
from engine.config import MOST, EngineConfig
from engine.errors import CapacityError
from engine.execution.need import Need, least_need, whole_blocks
from engine.execution.shortage import describe_shortage
from engine.free_memory import readable_size
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.footprint import WeightFootprint, weight_footprint
from engine.ops.backend import Backend

logger = logging.getLogger(__name__)

DEFAULTS = EngineConfig()
HALVINGS = 3
"""How often limits on a step that have their defaults may be halved where memory is short: 512 tokens to 64."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What the KV cache will be.

    Attributes:
        format: what a token takes.
        num_blocks: blocks.
        block_size: tokens per block.
        max_model_len: longest sequence, in tokens; it fits the cache.
    """

    format: KVFormat
    num_blocks: int
    block_size: int
    max_model_len: int

    @property
    def num_tokens(self) -> int:
        """Tokens the cache holds."""
        return self.num_blocks * self.block_size

    @property
    def num_bytes(self) -> int:
        """Memory the cache takes."""
        return self.num_tokens * self.format.bytes_per_token

    @property
    def dtype(self) -> str:
        """Element type, for people."""
        return self.format.dtype_name


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What will be allocated, in bytes.

    Attributes:
        free: what there was when the plan was made; None where the system does not tell.
        weights: of the model.
        workspace: activations, logits, kernels' scratch, sampling, rotary tables, and what requests take on the host.
        cache: the KV cache.
        max_num_seqs: most sequences in a step.
        max_num_batched_tokens: most tokens in a step.
    """

    free: int | None
    weights: WeightFootprint
    workspace: int
    cache: CachePlan
    max_num_seqs: int
    max_num_batched_tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights.total + self.workspace + self.cache.num_bytes

    @property
    def headroom(self) -> int | None:
        """What is left of the free memory."""
        return None if self.free is None else self.free - self.total

    @property
    def most_cache_tokens(self) -> int | None:
        """Tokens the largest cache would hold that still fits."""
        if self.free is None:
            return None
        room = self.free - self.weights.total - self.workspace
        return room // (self.cache.block_size * self.cache.format.bytes_per_token) * self.cache.block_size

    def applied_to(self, config: EngineConfig) -> EngineConfig:
        """The settings with everything that was automatic decided."""
        return replace(
            config,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_model_len=self.cache.max_model_len,
            kv_cache_tokens=self.cache.num_tokens,
        )


def plan_model(
    config: EngineConfig, directory: Path, model_config: ModelConfig, backend: Backend, room_to_come: int = 0
) -> MemoryPlan:
    """Decide what to allocate for a model directory, from the headers of its files; see `plan_memory`.

    Args:
        config: settings.
        directory: of the model.
        model_config: of the model.
        backend: what will compute it.
        room_to_come: bytes that count as free, for they will be.

    Raises:
        CheckpointError, UnsupportedModelError: the directory does not hold the model config.json describes.
        ConfigError, CapacityError: as `plan_memory`.
    """
    weights = weight_footprint(model_config, Checkpoint.open(directory), backend)
    free = _free_memory(config, backend)
    return plan_memory(config, model_config, weights, backend, None if free is None else free + room_to_come)


def plan_memory(
    config: EngineConfig,
    model_config: ModelConfig,
    weights: WeightFootprint,
    backend: Backend,
    free_bytes: int | None = None,
) -> MemoryPlan:
    """Decide what to allocate. Nothing of the model is in memory yet.

    With `kv_cache_tokens` the cache has that size (rounded up to whole blocks). Otherwise it takes `memory_fraction` of
    what weights and workspace leave, but no more than `max_num_seqs` sequences of full length could use. A
    `max_model_len` that is automatic is reduced to what fits. Where not even a small cache fits,
    `max_num_batched_tokens`, `max_num_seqs` and `memory_fraction` give way, as long as they have their defaults.

    Args:
        config: settings.
        model_config: of the model.
        weights: what they will take.
        backend: what will compute the model.
        free_bytes: free memory; None asks the system.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
        CapacityError: it does not fit; the message has the figures and what to set.
    """
    free = _free_memory(config, backend) if free_bytes is None else free_bytes

    def need_of(candidate: EngineConfig) -> Need:
        return least_need(candidate, model_config, weights, backend)

    for candidate in _candidates(config):
        need = need_of(candidate)
        if free is None or need.total <= free:
            _tell_of_reductions(config, candidate)
            return _plan(candidate, weights, need, free)
    raise CapacityError(describe_shortage(config, free or 0, weights, need_of))


def check_cache_still_fits(plan: MemoryPlan, backend: Backend) -> None:
    """Look again once the weights are there, for other programs take memory too.

    Raises:
        CapacityError: what is free now is less than the cache takes.
    """
    if plan.free is None:
        return
    free = backend.memory.free()
    if free < plan.cache.num_bytes:
        raise CapacityError(
            f"While the weights were loaded, free memory fell to {readable_size(free)}; the KV cache was to take "
            f"{readable_size(plan.cache.num_bytes)}. End what else takes memory, or set kv_cache_tokens to less than "
            f"{plan.cache.num_tokens}."
        )


def _free_memory(config: EngineConfig, backend: Backend) -> int | None:
    try:
        return backend.memory.free()
    except CapacityError:
        if not config.kv_cache_tokens:
            raise
        logger.warning("The system does not say how much memory is free: it is not checked whether the model fits.")
        return None


def _candidates(config: EngineConfig) -> Iterator[EngineConfig]:
    """The settings, then, with smaller and smaller limits where these have their defaults."""
    yield config
    for halving in range(1, HALVINGS + 1):
        smaller = {
            name: getattr(DEFAULTS, name) >> halving
            for name in ("max_num_batched_tokens", "max_num_seqs")
            if getattr(config, name) == getattr(DEFAULTS, name)
        }
        if smaller:
            yield replace(config, **smaller)


def _tell_of_reductions(config: EngineConfig, chosen: EngineConfig) -> None:
    for name in ("max_num_batched_tokens", "max_num_seqs"):
        before, after = getattr(config, name), getattr(chosen, name)
        if before != after:
            logger.warning("Memory is short: %s is %d, and not %d.", name, after, before)


def _plan(config: EngineConfig, weights: WeightFootprint, need: Need, free: int | None) -> MemoryPlan:
    """The plan with these settings, whose least need fits."""
    room = None if free is None else free - need.weights - need.fixed
    if config.kv_cache_tokens or room is None:
        num_blocks, length = _asked_for(config, need, room)
    else:
        num_blocks, length = _sized(config, need, room)
    if length < need.wanted_length:
        logger.warning(
            "Context length reduced from %d to %d tokens, which is what the KV cache holds; raise %s for more.",
            need.wanted_length,
            length,
            "kv_cache_tokens" if config.kv_cache_tokens else "memory_fraction",
        )
    return MemoryPlan(
        free=free,
        weights=weights,
        workspace=need.fixed + length * need.per_position,
        cache=CachePlan(need.kv_format, num_blocks, config.block_size, length),
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
    )


def _asked_for(config: EngineConfig, need: Need, room: int | None) -> tuple[int, int]:
    """Blocks, and the longest sequence, with the cache that was asked for."""
    held = need.cache_tokens
    length = min(need.wanted_length, held)
    if room is not None and need.per_position:
        length = min(length, (room - need.cache) // need.per_position)
    return held // config.block_size, length


def _sized(config: EngineConfig, need: Need, room: int) -> tuple[int, int]:
    """Blocks, and the longest sequence, with the cache sized from what is left for it."""
    share = int(room * config.memory_fraction)
    least = need.cache + need.length * need.per_position
    if share < least:
        if config.memory_fraction != DEFAULTS.memory_fraction:
            raise CapacityError(
                f"memory_fraction {config.memory_fraction:g} of what weights and workspace leave is "
                f"{readable_size(max(share, 0))}; a KV cache for one sequence of {need.length} tokens takes "
                f"{readable_size(least - share)} more. Raise memory_fraction, or lower max_model_len."
            )
        logger.warning("Memory is short: the KV cache gets %s, more than memory_fraction.", readable_size(need.cache))
        share = least
    token_bytes = need.kv_format.bytes_per_token
    length = min(need.wanted_length, share // (need.per_position + token_bytes))
    affordable = (share - length * need.per_position) // (token_bytes * config.block_size)
    useful = config.max_num_seqs * (whole_blocks(length, config.block_size) // config.block_size)
    num_blocks = min(affordable, useful, MOST["kv_cache_tokens"] // config.block_size)
    return num_blocks, min(length, num_blocks * config.block_size)
