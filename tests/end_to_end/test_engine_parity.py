"""The whole engine against transformers, and against what is known of a published model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from engine.build import build_engine
from engine.config import EngineConfig, KernelChoice
from engine.pooling import PoolingKind, PoolingParams
from engine.types import GenerationRequest, PromptLogprob, SamplingParams
from tests.end_to_end.engine_runs import greedy, require_native, run, write_tiny_llama
from tests.fakes.toy_engine import pooled

PROMPT_LENGTHS = (1, 2, 15, 16, 17, 100)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, transformers.LlamaForCausalLM]:
    directory = tmp_path_factory.mktemp("tiny-llama")
    return directory, write_tiny_llama(directory)


@pytest.fixture(params=["torch", "native"])
def kernels(request: pytest.FixtureRequest) -> KernelChoice:
    if request.param == "native":
        require_native()
    choice: KernelChoice = request.param
    return choice


def scoring(request_id: str, prompt: Iterable[int]) -> GenerationRequest:
    """Only the prompt's own log-probabilities."""
    return GenerationRequest(request_id, tuple(prompt), SamplingParams(max_tokens=0, seed=0, prompt_logprobs=3))


def prompts(vocab_size: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]


def test_greedy_answers_and_log_probabilities_are_those_of_transformers(
    tiny: tuple[Path, transformers.LlamaForCausalLM], kernels: KernelChoice
) -> None:
    directory, reference = tiny
    core, _ = build_engine(EngineConfig(model=str(directory), kernels=kernels, threads=1, kv_cache_dtype="float32"))
    texts = prompts(reference.config.vocab_size)

    answers = run(core, [greedy(str(index), prompt, 40, logprobs=5) for index, prompt in enumerate(texts)])

    for index, prompt in enumerate(texts):
        answer = answers[str(index), 0]
        generated = reference.generate(
            torch.tensor([prompt]), do_sample=False, min_new_tokens=40, max_new_tokens=40, suppress_tokens=None
        )
        assert answer.token_ids == generated[0, len(prompt) :].tolist()
        with torch.no_grad():
            logits = reference(generated).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits.double(), dim=-1)
        for row, reported in zip(expected, answer.logprobs, strict=True):
            assert reported.logprob == pytest.approx(row[reported.token_id].item(), abs=1e-4)
            assert [each.logprob for each in reported.top] == pytest.approx(row.topk(5).values.tolist(), abs=1e-4)
            assert reported.top[0].token_id == reported.token_id


def test_log_probabilities_of_prompts_are_those_of_transformers(
    tiny: tuple[Path, transformers.LlamaForCausalLM], kernels: KernelChoice
) -> None:
    directory, reference = tiny
    config = EngineConfig(
        model=str(directory),
        kernels=kernels,
        threads=1,
        kv_cache_dtype="float32",
        max_num_seqs=4,
        max_num_batched_tokens=24,
    )
    core, _ = build_engine(config)
    texts = prompts(reference.config.vocab_size)

    answers = run(core, [scoring(str(index), prompt) for index, prompt in enumerate(texts)])

    for index, prompt in enumerate(texts):
        first, *others = answers[str(index), 0].prompt_logprobs
        assert (first.token_id, first.logprob, first.top) == (prompt[0], None, ())
        assert [each.token_id for each in others] == prompt[1:]
        with torch.no_grad():
            logits = reference(torch.tensor([prompt])).logits[0, :-1]
        for row, reported in zip(torch.log_softmax(logits.double(), dim=-1), others, strict=True):
            assert reported.logprob == pytest.approx(row[reported.token_id].item(), abs=1e-4)
            assert [each.logprob for each in reported.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_log_probabilities_of_prompts_have_the_same_bits_however_they_are_computed(
    tiny: tuple[Path, transformers.LlamaForCausalLM],
) -> None:
    require_native()
    directory, reference = tiny
    texts = prompts(reference.config.vocab_size)

    def scores(seqs: int, tokens: int, *, at_once: bool) -> list[tuple[PromptLogprob, ...]]:
        config = EngineConfig(
            model=str(directory), kernels="native", threads=1, max_num_seqs=seqs, max_num_batched_tokens=tokens
        )
        core, _ = build_engine(config)
        wanted = [scoring(str(index), prompt) for index, prompt in enumerate(texts)]
        run(core, [greedy("before", texts[-1], 2)])  # leaves blocks that must not be used
        found = (
            run(core, wanted)
            if at_once
            else {key: value for each in wanted for key, value in run(core, [each]).items()}
        )
        return [found[str(index), 0].prompt_logprobs for index in range(len(texts))]

    expected = scores(1, 512, at_once=False)
    assert scores(64, 512, at_once=True) == expected
    assert scores(3, 7, at_once=True) == expected


def test_what_is_said_of_an_answer_is_said_of_a_prompt_that_holds_it(
    tiny: tuple[Path, transformers.LlamaForCausalLM],
) -> None:
    require_native()
    core, _ = build_engine(EngineConfig(model=str(tiny[0]), kernels="native", threads=1))
    prompt = [7, 8, 9]
    answer = run(core, [greedy("answer", prompt, 20, logprobs=3)])["answer", 0]

    scored = run(core, [scoring("scored", prompt + answer.token_ids)])["scored", 0].prompt_logprobs

    assert [(each.logprob, each.top) for each in scored[3:]] == [(each.logprob, each.top) for each in answer.logprobs]


@pytest.mark.parametrize("kind", PoolingKind)
def test_vectors_are_made_of_the_states_that_transformers_has(
    tiny: tuple[Path, transformers.LlamaForCausalLM], kernels: KernelChoice, kind: PoolingKind
) -> None:
    directory, reference = tiny
    core, _ = build_engine(
        EngineConfig(
            model=str(directory), kernels=kernels, threads=1, kv_cache_dtype="float32", max_num_batched_tokens=24
        )
    )
    texts = prompts(reference.config.vocab_size)

    answers = run(core, [pooled(str(index), prompt, PoolingParams(kind)) for index, prompt in enumerate(texts)])
    shortened = run(core, [pooled("short", texts[-1], PoolingParams(kind, dimensions=10))])["short", 0]

    for index, prompt in enumerate(texts):
        with torch.no_grad():
            states = reference.model(torch.tensor([prompt])).last_hidden_state[0].double()
        state = states.mean(0) if kind is PoolingKind.MEAN else states[-1]
        found = torch.frombuffer(bytearray(answers[str(index), 0].embedding), dtype=torch.float32).double()
        assert found.tolist() == pytest.approx((state / state.norm()).tolist(), abs=1e-5)
    first = torch.frombuffer(bytearray(shortened.embedding), dtype=torch.float32)
    expected = found[:10] / found[:10].norm()
    assert first.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_vectors_have_the_same_bits_however_they_are_computed(
    tiny: tuple[Path, transformers.LlamaForCausalLM],
) -> None:
    require_native()
    directory, reference = tiny
    wanted = [
        pooled(f"{index}-{kind}", prompt, PoolingParams(kind))
        for index, prompt in enumerate(prompts(reference.config.vocab_size))
        for kind in PoolingKind
    ]

    def vectors(tokens: int, *, at_once: bool) -> list[bytes]:
        config = EngineConfig(model=str(directory), kernels="native", threads=1, max_num_batched_tokens=tokens)
        core, _ = build_engine(config)
        run(core, [greedy("before", wanted[-1].prompt_token_ids, 2)])
        found = run(core, wanted) if at_once else {}
        for each in () if at_once else wanted:
            found |= run(core, [each])
        return [found[each.request_id, 0].embedding for each in wanted]

    assert vectors(7, at_once=True) == vectors(512, at_once=False)


def test_a_published_model_tells_its_story(shared: Path, kernels: KernelChoice) -> None:
    directory = shared / "models" / "stories260k"
    core, _ = build_engine(EngineConfig(model=str(directory), kernels=kernels, threads=1))
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    prompt = tokenizer.encode("Once upon a time, there was a little girl named Lily.").ids
    params = SamplingParams(temperature=0, max_tokens=80, seed=0)

    answers = run(core, [GenerationRequest("story", tuple(prompt), params)])

    story = answers["story", 0].data.decode()
    assert story.startswith(" She loved to play outside in the park. One day, she saw a big, red ball.")
    assert " She wanted to play with it, but it was too high.\nLily's mom said," in story
