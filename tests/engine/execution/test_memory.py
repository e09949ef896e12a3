"""What is allocated: asked for or automatic, bounded by memory, by use and by the model; and refused with figures."""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.errors import CapacityError, ConfigError
from engine.execution.memory import MemoryPlan, check_cache_still_fits, plan_memory
from engine.execution.need import USEFUL_LENGTH, least_need
from engine.model.config import ModelConfig
from engine.model.footprint import WeightFootprint
from engine.ops.backend import Backend
from engine.ops.cpu_memory import CpuMemory
from tests.engine.execution.steps import model_config

TOKEN = 192  # bytes: 3 layers x 2 heads x 8 features x keys and values x 2 bytes
WEIGHTS = WeightFootprint(matrices=4 * 10**6, vectors=10**6, matrix_weights=8 * 10**6)


class Memory(CpuMemory):
    """Of a machine that has so many bytes free; None where it does not say."""

    def __init__(self, free: int | None) -> None:
        super().__init__(threads=1)
        self.there = free

    def free(self) -> int:
        if self.there is None:
            raise CapacityError("unknown")
        return self.there


@dataclass
class PlannedBackend:
    """What a plan asks of a backend."""

    memory: Memory
    activation_dtype: torch.dtype = torch.float32


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    """Context length 1024."""
    return model_config(tmp_path)


def backend(free: int | None = 2**30) -> Backend:
    return cast("Backend", PlannedBackend(Memory(free)))


def plan(config: EngineConfig, model: ModelConfig, free: int | None = 2**30) -> MemoryPlan:
    return plan_memory(config, model, WEIGHTS, backend(free))


def least(config: EngineConfig, model: ModelConfig) -> int:
    """Bytes with which these settings just fit."""
    return least_need(config, model, WEIGHTS, backend()).total


def room_for(config: EngineConfig, model: ModelConfig, tokens: int) -> int:
    """Free bytes of which weights and workspace leave so many tokens, at full length."""
    need = least_need(config, model, WEIGHTS, backend())
    return need.weights + need.fixed + need.wanted_length * need.per_position + tokens * TOKEN


def test_asked_for_it_is_rounded_up_to_whole_blocks(model: ModelConfig) -> None:
    cache = plan(EngineConfig(kv_cache_tokens=2001), model).cache

    assert (cache.num_blocks, cache.block_size, cache.num_tokens) == (126, 16, 2016)
    assert (cache.num_bytes, cache.dtype, cache.max_model_len) == (2016 * TOKEN, "float16", 1024)


def test_wider_elements_cost_more(model: ModelConfig) -> None:
    config = EngineConfig(kv_cache_tokens=1024, kv_cache_dtype="float32")

    assert plan(config, model).cache.num_bytes == 1024 * TOKEN * 2


def test_the_parts_add_up(model: ModelConfig) -> None:
    set_by_hand = EngineConfig(max_model_len=1024, max_num_seqs=60, max_num_batched_tokens=500)
    decided = plan(replace(set_by_hand, kv_cache_tokens=1024), model)

    assert decided.total == WEIGHTS.total + decided.workspace + 1024 * TOKEN
    assert decided.headroom == 2**30 - decided.total
    assert decided.most_cache_tokens is not None
    most = replace(set_by_hand, kv_cache_tokens=decided.most_cache_tokens)
    assert plan(most, model).headroom is not None
    with pytest.raises(CapacityError):
        plan(replace(most, kv_cache_tokens=decided.most_cache_tokens + 16), model)


def test_automatic_takes_the_fraction_of_what_is_left(model: ModelConfig) -> None:
    config = EngineConfig(memory_fraction=1.0, max_num_seqs=64)

    assert plan(config, model, room_for(config, model, 10000)).cache.num_tokens == 10000
    assert plan(replace(config, memory_fraction=0.25), model, room_for(config, model, 10000)).cache.num_tokens < 2500


def test_automatic_never_takes_more_than_all_sequences_can_use(model: ModelConfig) -> None:
    cache = plan(EngineConfig(max_num_seqs=3, max_model_len=100), model, 2**40).cache

    assert (cache.num_tokens, cache.max_model_len) == (3 * 112, 100)


def test_an_automatic_length_is_reduced_to_the_cache_and_says_so(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = EngineConfig(memory_fraction=1.0)

    cache = plan(config, model, room_for(config, model, 500)).cache

    assert 496 <= cache.max_model_len < 1024
    assert cache.max_model_len <= cache.num_tokens
    assert f"from 1024 to {cache.max_model_len}" in caplog.text
    assert "memory_fraction" in caplog.text


def test_an_automatic_length_is_reduced_to_a_small_cache_that_was_asked_for(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    assert plan(EngineConfig(kv_cache_tokens=64), model).cache.max_model_len == 64
    assert "kv_cache_tokens" in caplog.text


def test_what_a_configuration_claims_is_bounded_by_what_a_cache_could_hold(model: ModelConfig) -> None:
    claims = replace(model, max_position_embeddings=10**12)

    assert plan(EngineConfig(), claims, 40 * 2**20).cache.max_model_len < 40 * 2**20 // TOKEN
    assert plan(EngineConfig(kv_cache_tokens=100), claims).cache.max_model_len == 112


def test_a_length_that_contradicts_the_cache_asked_for(model: ModelConfig) -> None:
    with pytest.raises(CapacityError, match=r"512 tokens.*max_model_len \(600\)"):
        plan(EngineConfig(max_model_len=600, kv_cache_tokens=500), model)


def test_longer_than_the_model_supports(model: ModelConfig) -> None:
    with pytest.raises(ConfigError, match=r"1025.*at most 1024"):
        plan(EngineConfig(max_model_len=1025), model)


def test_limits_at_their_defaults_give_way_and_the_log_says_so(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    decided = plan(EngineConfig(), model, least(EngineConfig(), model) - 1)

    assert (decided.max_num_batched_tokens, decided.max_num_seqs) == (256, 32)
    assert "max_num_batched_tokens is 256, and not 512" in caplog.text
    assert decided.applied_to(EngineConfig()).max_num_seqs == 32


def test_limits_that_were_set_are_kept(model: ModelConfig) -> None:
    config = EngineConfig(max_num_seqs=60)
    decided = plan(config, model, least(config, model) - 1)
    assert (decided.max_num_batched_tokens, decided.max_num_seqs) == (256, 60)

    both = EngineConfig(max_num_seqs=60, max_num_batched_tokens=500)
    with pytest.raises(CapacityError, match="max_num_batched_tokens=64 frees"):
        plan(both, model, least(both, model) - 1)


def test_a_fraction_too_small_gives_way_only_at_its_default(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    enough = least(EngineConfig(), model)
    cache = plan(EngineConfig(), model, enough).cache
    assert cache.max_model_len == USEFUL_LENGTH
    assert "more than memory_fraction" in caplog.text

    with pytest.raises(CapacityError, match=r"memory_fraction 0\.4"):
        plan(EngineConfig(memory_fraction=0.4), model, enough)


def test_a_shortage_names_every_figure_and_what_would_help(model: ModelConfig) -> None:
    config = EngineConfig(kv_cache_tokens=2**20, kv_cache_dtype="float32")
    free = 100 * 2**20

    with pytest.raises(CapacityError) as caught:
        plan(config, model, free)

    text = str(caught.value)
    missing = least(replace(config, max_num_seqs=64), model) - free
    assert f"{missing / 2**20:.1f} MiB are missing" in text
    assert "Weights take 4.8 MiB" in text
    assert "384.0 MiB for 1048576 tokens (375.0 KiB per 1000)" in text
    assert "kv_cache_dtype=float16 frees 192.0 MiB" in text
    proposed = re.search(r"kv_cache_tokens=(\d+) frees \S+ MiB and would fit", text)
    assert proposed is not None
    assert plan(replace(config, kv_cache_tokens=int(proposed[1])), model, free).headroom is not None


def test_a_shortage_of_weights_proposes_a_quantization_that_fits(model: ModelConfig) -> None:
    heavy = WeightFootprint(matrices=80 * 2**20, vectors=0, matrix_weights=80 * 2**20)

    with pytest.raises(CapacityError, match=r"quantization of at most (\d\.\d) bits per weight") as caught:
        plan_memory(EngineConfig(), model, heavy, backend(60 * 2**20))
    found = re.search(r"at most (\d\.\d) bits", str(caught.value))
    assert found is not None
    lighter = replace(heavy, matrices=int(heavy.matrix_weights * float(found[1]) / 8))
    assert plan_memory(EngineConfig(), model, lighter, backend(60 * 2**20)).headroom is not None

    with pytest.raises(CapacityError, match="no quantization of this model would fit"):
        plan_memory(EngineConfig(), model, heavy, backend(30 * 2**20))


def test_a_system_that_does_not_tell_needs_the_size_of_the_cache(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CapacityError):
        plan(EngineConfig(), model, None)

    decided = plan(EngineConfig(kv_cache_tokens=2**30), model, None)
    assert (decided.free, decided.headroom, decided.cache.num_tokens) == (None, None, 2**30)
    assert "not checked" in caplog.text


def test_memory_that_vanishes_while_loading(model: ModelConfig) -> None:
    decided = plan(EngineConfig(kv_cache_tokens=1024), model)

    check_cache_still_fits(decided, backend(1024 * TOKEN))
    with pytest.raises(CapacityError, match="fell to 191"):
        check_cache_still_fits(decided, backend(1024 * TOKEN - 512))


with tempfile.TemporaryDirectory() as _directory:
    MODEL = model_config(Path(_directory))


@given(
    free=st.integers(2**24, 2**26),
    fraction=st.floats(0.01, 1),
    length=st.just(0) | st.integers(2, 1024),
    tokens=st.sampled_from([0, 64, 5000]),
    seqs=st.integers(1, 100),
)
def test_a_plan_never_exceeds_what_is_free(free: int, fraction: float, length: int, tokens: int, seqs: int) -> None:
    config = EngineConfig(
        memory_fraction=fraction, max_model_len=length, kv_cache_tokens=tokens, max_num_seqs=seqs, block_size=16
    )
    logging.disable(logging.WARNING)
    try:
        decided = plan(config, MODEL, free)
    except CapacityError:
        return
    finally:
        logging.disable(logging.NOTSET)
    assert decided.total <= free
    assert 1 <= decided.cache.max_model_len <= decided.cache.num_tokens
    assert decided.cache.max_model_len == (length or decided.cache.max_model_len)
