"""What to say where a model does not fit: the figures, and which setting would free how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from engine.config import EngineConfig
from engine.execution.need import USEFUL_LENGTH, Need
from engine.free_memory import readable_size
from engine.model.footprint import WeightFootprint

LEAST_BITS = 2.1
"""Bits per weight below which no quantization of EXL2 goes."""

SMALL = {"max_num_batched_tokens": 64, "max_num_seqs": 8}
"""Limits on a step that are worth proposing."""

NeedOf = Callable[[EngineConfig], Need]


def describe_shortage(config: EngineConfig, free: int, weights: WeightFootprint, need_of: NeedOf) -> str:
    """One paragraph.

    Args:
        config: settings that do not fit.
        free: bytes there are.
        weights: of the model.
        need_of: what other settings would need at the least.
    """
    need = need_of(config)
    missing = need.total - free
    kv_bytes = need.kv_format.bytes_per_token
    text = (
        f"The model does not fit in memory: it needs at least {readable_size(need.total)}, {readable_size(free)} are "
        f"free, {readable_size(missing)} are missing. Weights take {readable_size(need.weights)}, workspace "
        f"{readable_size(need.workspace)}, the KV cache {readable_size(need.cache)} for {need.cache_tokens} tokens "
        f"({readable_size(1000 * kv_bytes)} per 1000)."
    )
    ways = list(_ways(config, need, missing, need_of))
    bits = (weights.matrices - missing) * 8 / weights.matrix_weights
    if bits >= LEAST_BITS:
        held = weights.matrices * 8 / weights.matrix_weights
        ways.append(
            f"a quantization of at most {bits - 0.05:.1f} bits per weight (this one takes {held:.1f}) would fit"
        )
    elif not any(way.endswith("would fit") for way in ways):
        ways.append("no quantization of this model would fit: take a smaller model or free memory")
    return f"{text} To make it fit: {'; '.join(ways)}."


def _ways(config: EngineConfig, need: Need, missing: int, need_of: NeedOf) -> Iterator[str]:
    """Settings that would free memory, each with how much."""
    for change in _changes(config, need, missing):
        changed = need_of(replace(config, **change))
        freed = need.total - changed.total
        if freed > 0:
            named = ", ".join(f"{name}={value}" for name, value in change.items())
            yield f"{named} frees {readable_size(freed)}" + (" and would fit" if freed >= missing else "")


def _changes(config: EngineConfig, need: Need, missing: int) -> Iterator[dict[str, Any]]:
    """Each setting that could be smaller, and how small: as large as fits, or as small as is of use."""
    fitting = need.cache_tokens - -(-missing // need.kv_format.bytes_per_token)
    fitting -= fitting % config.block_size
    useful = min(USEFUL_LENGTH, need.wanted_length)
    if config.kv_cache_tokens and not config.max_model_len:
        yield {"kv_cache_tokens": max(fitting, useful)}
    elif config.kv_cache_tokens:
        tokens = max(fitting, useful)
        yield {"kv_cache_tokens": tokens, "max_model_len": min(config.max_model_len, tokens)}
    elif config.max_model_len:
        yield {"max_model_len": max(min(fitting, config.max_model_len), useful)}
    for name, small in SMALL.items():
        if getattr(config, name) > small:
            yield {name: small}
    if need.kv_format.dtype.itemsize > 2:
        yield {"kv_cache_dtype": "float16"}
