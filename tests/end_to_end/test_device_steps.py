"""The whole engine over the CUDA kernels, on the emulated device that runs late: overlapped, recorded, filled up."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.build import build_engine
from engine.config import EngineConfig
from engine.ops.cuda_backend import CudaBackend
from engine.pooling import PoolingParams
from engine.types import GenerationRequest, SamplingParams
from tests.emulation.device import EmulatedRuntime
from tests.end_to_end.engine_runs import greedy, rewrite_config, run
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.engine.text import make_tokenizers

AS_GIVEN = {"index_select", "index_copy_", "copy_", "mm", "add_"}
"""Operations of torch that start on a device without making the host wait; steps use no others."""

PROMPTS = ([7, 8, 9], [30] * 11, [7, 8, 9, 40, 41], [5])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny EXL2 Llama."""
    directory = tmp_path_factory.mktemp("exl2")
    tokenizer = make_tokenizers.byte_level()
    make_tokenizers.save(tokenizer, directory)
    write_random_exl2_llama(directory, hidden=32, layers=1, vocab=tokenizer.get_vocab_size(), widths=(4,))
    rewrite_config(directory, eos_token_id=0, max_position_embeddings=64)
    return directory


@pytest.fixture
def on_the_device(emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch) -> EmulatedRuntime:
    """Engines are built over the emulated device."""
    monkeypatch.setattr("engine.build.select_backend", lambda *_: CudaBackend(emulated, workspace_bytes=1 << 20))
    return emulated


def config_of(model: Path) -> EngineConfig:
    return EngineConfig(
        model=str(model), max_num_seqs=3, max_num_batched_tokens=8, block_size=4, kv_cache_tokens=64, max_model_len=32
    )


def requests() -> list[GenerationRequest]:
    """Greedy with all that is reported, and one that is drawn."""
    wanted = [greedy(str(index), prompt, 4, logprobs=2) for index, prompt in enumerate(PROMPTS)]
    params = SamplingParams(temperature=1.0, top_p=0.9, max_tokens=4, ignore_eos=True, seed=3, logprobs=1)
    return [*wanted, GenerationRequest("drawn", (4, 4, 4), params)]


def scored() -> GenerationRequest:
    """One whose prompt is read, and nothing else."""
    return GenerationRequest("scored", (9, 8) * 5, SamplingParams(max_tokens=0, seed=0, prompt_logprobs=2))


def test_neither_neighbours_nor_filling_change_a_bit(model: Path, on_the_device: EmulatedRuntime) -> None:
    wanted = [*requests(), scored()]
    together = run(build_engine(config_of(model))[0], wanted)

    alone, _ = build_engine(config_of(model), pipeline_depth=0)
    for each in wanted:
        expected = run(alone, [each])[each.request_id, 0]
        found = together[each.request_id, 0]
        assert (found.token_ids, found.logprobs) == (expected.token_ids, expected.logprobs)
        assert found.prompt_logprobs == expected.prompt_logprobs
    assert len(together["scored", 0].prompt_logprobs) == 10


def test_once_warm_nothing_is_allocated_and_nobody_waits_but_for_results(
    model: Path, on_the_device: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, _ = build_engine(config_of(model))
    device = on_the_device.late
    device.allocated.clear()
    waits, copies, steps = device.waits, device.copies, core.stats.steps_total

    run(core, requests())

    steps = core.stats.steps_total - steps
    assert not device.allocated
    assert device.waits - waits <= steps
    assert steps < device.copies - copies <= 2 * steps
    run(core, [scored()])
    assert not device.allocated


def test_steps_use_no_operation_that_might_wait(model: Path, on_the_device: EmulatedRuntime) -> None:
    """A real device waits for more than this one can see: lists that become tensors, masks that pick rows."""
    core, _ = build_engine(config_of(model))
    sampling = SamplingParams(
        temperature=0.9, n=2, max_tokens=5, ignore_eos=True, seed=4, repetition_penalty=1.2, logit_bias={9: 1.0}
    )
    vector = GenerationRequest("vector", (7, 8, 9), SamplingParams(max_tokens=0, seed=0), pooling=PoolingParams())
    on_the_device.late.operations.clear()

    run(core, [*requests(), scored(), GenerationRequest("choices", tuple(range(20, 30)), sampling), vector])

    assert {"index_select", "index_copy_", "copy_"} <= on_the_device.late.operations <= AS_GIVEN
