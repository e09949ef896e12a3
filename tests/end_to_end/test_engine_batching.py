"""A request's answer depends on the request and the model alone: not on batch, chunking, prefix cache or preemption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.build import build_engine
from engine.config import EngineConfig
from engine.types import GenerationRequest, SamplingParams
from tests.end_to_end.engine_runs import Answer, greedy, require_native, rewrite_config, run, write_tiny_llama
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.engine.text import make_tokenizers

pytestmark = pytest.mark.usefixtures("native")

STREAMS = 32
KINDS = ("dense", "exl2")


@pytest.fixture(scope="module")
def native() -> None:
    """The torch reference promises this law only up to rounding."""
    require_native()


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama, float32 or EXL2."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "dense":
        write_tiny_llama(directory)
    else:
        tokenizer = make_tokenizers.byte_level()
        make_tokenizers.save(tokenizer, directory)
        write_random_exl2_llama(directory, vocab=tokenizer.get_vocab_size())
        rewrite_config(directory, eos_token_id=0)
    return directory


def prompts() -> list[list[int]]:
    """Of many lengths; half of them begin alike."""
    generator = torch.Generator().manual_seed(2)
    common = torch.randint(300, (37,), generator=generator).tolist()
    return [
        (common if index % 2 else []) + torch.randint(300, (1 + 2 * index % 41,), generator=generator).tolist()
        for index in range(STREAMS)
    ]


def sampled(index: int, prompt: list[int], choices: int = 1) -> GenerationRequest:
    params = SamplingParams(
        n=choices,
        max_tokens=12,
        temperature=0.5 + index / STREAMS,
        top_p=0.95,
        top_k=0 if index % 3 else 20,
        repetition_penalty=1.1 if index % 4 == 0 else 1.0,
        logprobs=3 if index % 5 == 0 else None,
        ignore_eos=True,
        seed=1000 + index,
    )
    return GenerationRequest(str(index), tuple(prompt), params)


def requests() -> list[GenerationRequest]:
    """Greedy and sampled streams in turn."""
    return [
        sampled(index, prompt)
        if index % 4 == 3
        else greedy(str(index), prompt, 20, logprobs=2 if index % 8 == 0 else None)
        for index, prompt in enumerate(prompts())
    ]


def alone(model: Path, wanted: list[GenerationRequest]) -> dict[tuple[str, int], Answer]:
    """Each request by itself, its prompt in one step, without a prefix cache."""
    core, _ = build_engine(EngineConfig(model=str(model), kernels="native", threads=1, prefix_caching=False))
    return {key: answer for request in wanted for key, answer in run(core, [request]).items()}


@pytest.mark.parametrize("pipeline_depth", [0, 1])
def test_many_streams_are_the_same_as_each_alone(model: Path, pipeline_depth: int) -> None:
    crowded = EngineConfig(
        model=str(model),
        kernels="native",
        threads=2,
        max_num_batched_tokens=48,
        block_size=8,
        kv_cache_tokens=512,
    )
    core, _ = build_engine(crowded, pipeline_depth=pipeline_depth)

    together = run(core, requests())

    assert core.stats.preemptions_total > 0
    assert core.stats.prefix_cache_hits_total > 0
    expected = alone(model, requests())
    for key, answer in together.items():
        assert replace(answer, cached_tokens=0) == expected[key], key


def test_the_pace_of_steps_changes_no_token(model: Path) -> None:
    """The clock of this machine decides the chunks; whatever they are, tokens are the same."""
    config = EngineConfig(model=str(model), kernels="native", threads=1, block_size=8, max_num_batched_tokens=64)
    paced = replace(config, max_step_ms=0.001, max_num_seqs=8)

    together = run(build_engine(paced)[0], requests())

    expected = alone(model, requests())
    for key, answer in together.items():
        assert replace(answer, cached_tokens=0) == expected[key], key


def test_choices_of_one_request_differ_and_are_the_same_again(model: Path) -> None:
    config = EngineConfig(model=str(model), kernels="native", threads=1)
    wanted = [sampled(index, prompt, choices=3) for index, prompt in enumerate(prompts()[:4])]
    first, second = (run(build_engine(config, pipeline_depth=depth)[0], wanted) for depth in (0, 1))

    assert {key: answer.token_ids for key, answer in first.items()} == {
        key: answer.token_ids for key, answer in second.items()
    }
    for request in wanted:
        choices = [tuple(first[request.request_id, choice].token_ids) for choice in range(3)]
        assert len(set(choices)) == 3


def test_an_answer_found_in_the_prefix_cache_is_the_same(model: Path) -> None:
    core, _ = build_engine(EngineConfig(model=str(model), kernels="native", threads=1, block_size=8))
    prompt = prompts()[-1]

    first, second = (run(core, [greedy("again", prompt, 10)])["again", 0] for _ in range(2))

    assert first.cached_tokens == 0
    assert second.cached_tokens == (len(prompt) - 1) // 8 * 8
    assert second.token_ids == first.token_ids


def test_seeds_tell_equal_requests_apart(model: Path) -> None:
    core, _ = build_engine(EngineConfig(model=str(model), kernels="native", threads=1))
    params = [SamplingParams(max_tokens=16, temperature=1.5, ignore_eos=True, seed=seed) for seed in range(4)]

    answers = run(core, [GenerationRequest(str(index), (5, 6, 7), each) for index, each in enumerate(params)])

    assert len({tuple(answer.token_ids) for answer in answers.values()}) == 4


def test_choices_that_copy_the_prompts_last_block_are_those_that_computed_it(model: Path) -> None:
    """Each choice of n = 3 against the same choice computed with blocks so small that nothing is ever copied."""
    wanted = [sampled(index, prompt, choices=3) for index, prompt in enumerate(prompts()[1:5])]
    config = EngineConfig(model=str(model), kernels="native", threads=1, block_size=16, prefix_caching=False)

    copied, never = (run(build_engine(replace(config, block_size=size))[0], wanted) for size in (16, 1))

    assert copied == never
