"""The plan of the cache: asked for or automatic, bounded by memory, by use and by the model."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.errors import CapacityError, ConfigError
from engine.execution.memory import CachePlan, longest_sequence, plan_cache
from engine.model.config import ModelConfig
from tests.engine.execution.steps import model_config

TOKEN = 192  # bytes: 3 layers x 2 heads x 8 features x keys and values x 2 bytes


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    """Context length 1024."""
    return model_config(tmp_path)


def test_asked_for_it_is_rounded_up_to_whole_blocks(model: ModelConfig) -> None:
    plan = plan_cache(EngineConfig(kv_cache_tokens=2001), model, free_bytes=2**30)

    assert (plan.num_blocks, plan.block_size, plan.num_tokens) == (126, 16, 2016)
    assert (plan.num_bytes, plan.dtype, plan.max_model_len) == (2016 * TOKEN, "float16", 1024)


def test_wider_elements_cost_more(model: ModelConfig) -> None:
    config = EngineConfig(kv_cache_tokens=1024, kv_cache_dtype="float32")

    assert plan_cache(config, model, free_bytes=2**30).num_bytes == 1024 * TOKEN * 2


def test_asked_for_more_than_is_free(model: ModelConfig) -> None:
    config = EngineConfig(kv_cache_tokens=2**20)

    with pytest.raises(CapacityError, match=r"192\.0 MiB, 92\.0 MiB more.*kv_cache_tokens to at most 546133") as caught:
        plan_cache(config, model, free_bytes=100 * 2**20)
    assert "kv_cache_dtype" not in str(caught.value)


def test_a_smaller_type_is_proposed_where_it_would_help(model: ModelConfig) -> None:
    config = EngineConfig(kv_cache_tokens=2**20, kv_cache_dtype="float32")

    with pytest.raises(CapacityError, match="set kv_cache_dtype to float16"):
        plan_cache(config, model, free_bytes=2**20)


def test_automatic_takes_the_fraction_of_free_memory(model: ModelConfig) -> None:
    plan = plan_cache(EngineConfig(memory_fraction=0.25), model, free_bytes=40000 * TOKEN)

    assert plan.num_tokens == 10000


def test_automatic_never_takes_more_than_all_sequences_can_use(model: ModelConfig) -> None:
    plan = plan_cache(EngineConfig(max_num_seqs=3, max_model_len=100), model, free_bytes=2**40)

    assert (plan.num_tokens, plan.max_model_len) == (3 * 112, 100)


def test_an_automatic_length_is_reduced_to_the_cache_and_says_so(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        plan = plan_cache(EngineConfig(memory_fraction=0.5), model, free_bytes=1000 * TOKEN)

    assert (plan.num_tokens, plan.max_model_len) == (496, 496)
    assert "from 1024 to 496" in caplog.text
    assert "memory_fraction" in caplog.text


def test_an_automatic_length_is_reduced_to_a_small_cache_that_was_asked_for(
    model: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_cache(EngineConfig(kv_cache_tokens=64), model, free_bytes=2**30)

    assert plan.max_model_len == 64
    assert "kv_cache_tokens" in caplog.text


@pytest.mark.parametrize(
    "config", [EngineConfig(max_model_len=600), EngineConfig(max_model_len=600, kv_cache_tokens=500)]
)
def test_an_explicit_length_that_does_not_fit_is_refused(model: ModelConfig, config: EngineConfig) -> None:
    with pytest.raises(CapacityError, match=r"max_model_len \(600\)"):
        plan_cache(config, model, free_bytes=1000 * TOKEN)


def test_no_room_for_a_single_block(model: ModelConfig) -> None:
    with pytest.raises(CapacityError, match="memory_fraction"):
        plan_cache(EngineConfig(), model, free_bytes=100)


def test_longer_than_the_model_supports(model: ModelConfig) -> None:
    with pytest.raises(ConfigError, match=r"1025.*at most 1024"):
        plan_cache(EngineConfig(max_model_len=1025), model, free_bytes=2**30)


def test_free_memory_of_this_machine_is_used_by_default(model: ModelConfig) -> None:
    plan = plan_cache(EngineConfig(max_num_seqs=1), model)

    assert isinstance(plan, CachePlan)
    assert plan.num_tokens == 1024


def test_what_a_configuration_claims_is_bounded_by_what_a_cache_could_hold(model: ModelConfig) -> None:
    claims = replace(model, max_position_embeddings=10**12)
    assert longest_sequence(EngineConfig(), claims, free_bytes=5000 * TOKEN) == 5000 + 16
    assert longest_sequence(EngineConfig(kv_cache_tokens=100), claims, free_bytes=5000 * TOKEN) == 100 + 16
    assert longest_sequence(EngineConfig(), model, free_bytes=5000 * TOKEN) == 1024
