"""How large the KV cache is, and with it how long a sequence may be."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from engine.cache.kv_format import KVFormat, kv_dtype
from engine.config import EngineConfig
from engine.errors import CapacityError, ConfigError
from engine.free_memory import free_memory
from engine.model.config import ModelConfig

logger = logging.getLogger(__name__)


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


def plan_cache(config: EngineConfig, model_config: ModelConfig, free_bytes: int | None = None) -> CachePlan:
    """Decide the size of the cache. Call it once the weights are loaded, so that they no longer count as free.

    With `kv_cache_tokens` the cache has that size (rounded up to whole blocks). Otherwise it takes `memory_fraction` of
    the free memory, but no more than `max_num_seqs` sequences of full length could use. A `max_model_len` that was left
    automatic is reduced to what the cache holds.

    Args:
        config: settings.
        model_config: of the loaded model.
        free_bytes: free memory; None asks the system.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
        CapacityError: the cache does not fit in memory, or not even one sequence fits in the cache.
    """
    kv_format = _kv_format(config, model_config)
    wanted_len = wanted_length(config, model_config)
    free = free_memory() if free_bytes is None else free_bytes
    if config.kv_cache_tokens:
        num_blocks = _blocks_asked_for(config, kv_format, free)
    else:
        num_blocks = _blocks_that_fit(config, kv_format, free, wanted_len)
    length = _affordable_length(config, kv_format, num_blocks, wanted_len)
    return CachePlan(kv_format, num_blocks, config.block_size, length)


def longest_sequence(config: EngineConfig, model_config: ModelConfig, free_bytes: int | None = None) -> int:
    """Upper bound for `CachePlan.max_model_len`, known before the weights are loaded.

    A configuration may claim any number of positions; tables are made for those a cache in this memory could hold.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
    """
    free = free_memory() if free_bytes is None else free_bytes
    affordable = config.kv_cache_tokens or free // _kv_format(config, model_config).bytes_per_token
    return min(wanted_length(config, model_config), max(affordable + config.block_size, 1))


def wanted_length(config: EngineConfig, model_config: ModelConfig) -> int:
    """Longest sequence that is asked for, in tokens; what memory allows may be less.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
    """
    most = model_config.max_position_embeddings
    if config.max_model_len > most:
        raise ConfigError(
            f"max_model_len is {config.max_model_len}, but the model supports at most {most} tokens "
            "(max_position_embeddings in config.json). Set it to that or less, or to 0 for as long as possible."
        )
    return config.max_model_len or most


def _kv_format(config: EngineConfig, model_config: ModelConfig) -> KVFormat:
    dtype = kv_dtype(config.kv_cache_dtype)
    return KVFormat(model_config.num_layers, model_config.num_kv_heads, model_config.head_dim, dtype)


def _blocks_asked_for(config: EngineConfig, kv_format: KVFormat, free: int) -> int:
    num_blocks = -(-config.kv_cache_tokens // config.block_size)
    needed = num_blocks * config.block_size * kv_format.bytes_per_token
    if needed > free:
        raise CapacityError(
            f"A KV cache of {config.kv_cache_tokens} tokens takes {_mib(needed)}, {_mib(needed - free)} more than the "
            f"{_mib(free)} that are free. Lower kv_cache_tokens to at most {free // kv_format.bytes_per_token}"
            f"{_smaller_type_hint(kv_format)}, or free memory."
        )
    return num_blocks


def _blocks_that_fit(config: EngineConfig, kv_format: KVFormat, free: int, length: int) -> int:
    affordable = int(free * config.memory_fraction) // (config.block_size * kv_format.bytes_per_token)
    useful = config.max_num_seqs * -(-length // config.block_size)
    return min(affordable, useful)


def _affordable_length(config: EngineConfig, kv_format: KVFormat, num_blocks: int, length: int) -> int:
    """Longest sequence the cache holds, at most `length`."""
    held = num_blocks * config.block_size
    if held >= length:
        return length
    setting = "kv_cache_tokens" if config.kv_cache_tokens else "memory_fraction"
    if config.max_model_len or held == 0:
        missing = (-(-length // config.block_size) - num_blocks) * config.block_size * kv_format.bytes_per_token
        raise CapacityError(
            f"The KV cache would hold {held} tokens, but one sequence of max_model_len ({length}) tokens takes "
            f"{_mib(missing)} more. Raise {setting}, lower max_model_len{_smaller_type_hint(kv_format)}, "
            "or free memory."
        )
    logger.warning(
        "Context length reduced from %d to %d tokens, which is what the KV cache holds; raise %s for more.",
        length,
        held,
        setting,
    )
    return held


def _smaller_type_hint(kv_format: KVFormat) -> str:
    return ", set kv_cache_dtype to float16" if kv_format.dtype.itemsize > 2 else ""


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
