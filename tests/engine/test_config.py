"""Settings that make no sense are refused by name."""

from __future__ import annotations

import pytest

from engine.config import MAX_THREADS, EngineConfig
from engine.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("kernels", "fast"),
        ("kv_cache_dtype", "int8"),
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 0),
        ("block_size", 0),
        ("max_num_seqs", 9_999_999_999),
        ("max_num_batched_tokens", 2**20 + 1),
        ("block_size", 1_000_000),
        ("max_model_len", 1),
        ("kv_cache_tokens", 2**31),
        ("threads", -1),
        ("threads", MAX_THREADS + 1),
        ("threads", 2**32 + 2),
        ("max_model_len", -1),
        ("kv_cache_tokens", -1),
        ("max_queued_requests", -1),
        ("max_queued_tokens", -1),
        ("max_step_ms", -1.0),
        ("max_step_ms", float("nan")),
        ("request_timeout", -1.0),
        ("request_timeout", float("nan")),
        ("memory_fraction", 0.0),
        ("memory_fraction", 1.5),
        ("max_restarts", -1),
        ("restart_window", 0.0),
        ("hang_timeout", 0.0),
        ("load_timeout", -1.0),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must .* not '?{value}"):
        EngineConfig(**{name: value})  # type: ignore[arg-type]
