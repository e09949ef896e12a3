"""The offline class over a tiny model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, ContextLengthError, InvalidRequestError, RequestFailedError
from engine.llm import LLM, run_to_end
from engine.pooling import PoolingParams
from engine.types import SamplingParams
from tests.end_to_end.engine_runs import write_tiny_llama
from tests.fakes.runner import ToyRunner
from tests.fakes.toy_engine import VOCAB_SIZE, request, toy_engine

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-llama")
    write_tiny_llama(path)
    return path


@pytest.fixture(scope="module")
def llm(directory: Path) -> LLM:
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return LLM(directory, dtype="float32", max_model_len=128, gpu_memory_utilization=0.1)


def test_one_prompt_or_many_text_or_ids(llm: LLM) -> None:
    one = llm.generate("Hello", GREEDY)
    assert len(one) == 1
    (answer,) = one[0].outputs
    assert one[0].prompt == "Hello"
    assert (len(answer.token_ids), answer.finish_reason, answer.stop_reason) == (8, "length", None)
    assert answer.logprobs is None
    several = llm.generate(["Hello", "Good day"], [GREEDY, SamplingParams(temperature=0, max_tokens=2)])
    assert several[0].outputs == one[0].outputs
    assert len(several[1].outputs[0].token_ids) <= 2
    ids = llm.generate(prompt_token_ids=one[0].prompt_token_ids, sampling_params=GREEDY)
    assert ids[0].outputs == one[0].outputs
    assert ids[0].prompt is None
    assert llm.generate(prompt_token_ids=[one[0].prompt_token_ids], sampling_params=GREEDY)[0].outputs == one[0].outputs


@pytest.mark.parametrize("prompts", [[None], [[1, 2, 3]], ["Hello", b"Hello"]])
def test_prompts_that_are_no_texts_are_refused(llm: LLM, prompts: Any) -> None:
    with pytest.raises(InvalidRequestError, match="A prompt must be a text"):
        llm.generate(prompts, GREEDY)


def test_choices_stop_strings_and_logprobs(llm: LLM) -> None:
    sampling = SamplingParams(n=3, temperature=1.0, max_tokens=6, logprobs=2, ignore_eos=True)
    outputs = llm.generate("Hello", sampling)[0].outputs
    assert [output.index for output in outputs] == [0, 1, 2]
    assert len({tuple(output.token_ids) for output in outputs}) > 1
    for output in outputs:
        assert output.logprobs is not None
        assert len(output.logprobs) == len(output.token_ids)
        chosen = [entry[token].logprob for entry, token in zip(output.logprobs, output.token_ids, strict=True)]
        assert output.cumulative_logprob == pytest.approx(sum(chosen))
        for entry, token in zip(output.logprobs, output.token_ids, strict=True):
            assert sorted(each.rank for each in entry.values() if each.rank) == [1, 2]
            assert len(entry) == (2 if entry[token].rank else 3)
    text = llm.generate("Hello", GREEDY)[0].outputs[0].text
    stop = text[3:5]
    stopped = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, stop=stop))[0].outputs[
        0
    ]
    assert (stopped.text, stopped.finish_reason, stopped.stop_reason) == (text[: text.index(stop)], "stop", stop)


def test_prompts_are_judged_and_made_into_vectors(llm: LLM) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=0, prompt_logprobs=2)
    (judged,) = llm.generate("Hello", sampling)
    assert judged.prompt_logprobs is not None
    first, *others = judged.prompt_logprobs
    assert first is None
    for token, entry in zip(judged.prompt_token_ids[1:], others, strict=True):
        assert entry is not None
        assert sorted(each.rank for each in entry.values() if each.rank) == [1, 2]
        assert entry[token].logprob <= max(each.logprob for each in entry.values())
    assert (judged.outputs[0].text, judged.outputs[0].finish_reason) == ("", "length")
    assert llm.generate("Hello", GREEDY)[0].prompt_logprobs is None

    one, other = llm.embed(["Hello", "Good day"])
    assert math.hypot(*one.outputs.embedding) == pytest.approx(1, abs=1e-5)
    assert len(one.outputs.embedding) == 64
    assert one.outputs.embedding != other.outputs.embedding
    assert one.prompt_token_ids == judged.prompt_token_ids
    (again,) = llm.embed(prompt_token_ids=judged.prompt_token_ids)
    assert again.outputs == one.outputs
    (short,) = llm.embed("Hello", PoolingParams("last", dimensions=3))  # type: ignore[arg-type]
    assert len(short.outputs.embedding) == 3
    with pytest.raises(InvalidRequestError, match="64 dimensions, not 65"):
        llm.embed("Hello", PoolingParams(dimensions=65))
    with pytest.raises(InvalidRequestError, match="'mean' or 'last'"):
        PoolingParams("first")  # type: ignore[arg-type]


def test_a_seed_makes_an_answer_reproducible_and_none_does_not(llm: LLM) -> None:
    seeded = SamplingParams(seed=5, max_tokens=12, ignore_eos=True)
    assert llm.generate("x", seeded)[0].outputs == llm.generate("x", seeded)[0].outputs
    free = SamplingParams(max_tokens=12, ignore_eos=True)
    assert len({output.outputs[0].text for output in llm.generate(["x"] * 4, free)}) > 1


def test_chat_goes_through_the_template(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "Hi"}]
    (answer,) = llm.chat(conversation, GREEDY)
    assert answer.prompt == "<user>Hi<a>"
    assert answer.outputs == llm.generate("<user>Hi<a>", GREEDY)[0].outputs
    assert [each.prompt for each in llm.chat([conversation, conversation], GREEDY, add_generation_prompt=False)] == [
        "<user>Hi",
        "<user>Hi",
    ]


def test_what_cannot_be_used_is_refused_before_anything_is_generated(llm: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="either prompts or"):
        llm.generate()
    with pytest.raises(InvalidRequestError, match="2 prompts but 1"):
        llm.generate(["a", "b"], [GREEDY])
    with pytest.raises(ContextLengthError, match="128"):
        llm.generate(["a", "b" * 4000], GREEDY)
    with pytest.raises(InvalidRequestError, match="empty"):
        llm.generate(prompt_token_ids=[[]], sampling_params=GREEDY)
    assert len(llm.generate("a", GREEDY)[0].outputs[0].token_ids) == 8


def test_keywords_are_honoured_or_refused(directory: Path, llm: LLM) -> None:
    model = llm._model
    assert (model.kv_cache_dtype, model.max_model_len) == ("float32", 128)
    with pytest.raises(ConfigError, match="are float32"):
        LLM(directory, quantization="exl2")
    with pytest.raises(ConfigError, match="quantization must be None or 'exl2'"):
        LLM(directory, quantization="awq")
    with pytest.raises(ConfigError, match="dtype must be one of"):
        LLM(directory, dtype="int8")
    with pytest.raises(ConfigError, match="memory_fraction"):
        LLM(directory, gpu_memory_utilization=1.5)


def test_defaults_come_from_the_models_own_files(directory: Path, llm: LLM) -> None:
    path = directory / "generation_config.json"
    before = path.read_text()
    path.write_text('{"temperature": 0.25, "top_k": 7, "max_new_tokens": 33}')
    try:
        sampling = LLM(directory, max_model_len=64).get_default_sampling_params()
    finally:
        path.write_text(before)
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens, sampling.top_p) == (0.25, 7, 33, 1.0)


def test_a_failure_is_raised_and_leaves_the_engine_empty() -> None:
    runner = ToyRunner(4, VOCAB_SIZE, invalid_for=lambda each: each.request_id == "bad")
    engine = toy_engine(runner=runner)
    with pytest.raises(RequestFailedError, match="NaN"):
        run_to_end(engine.core, [request("good", [2, 3]), request("bad", [2, 4])])
    assert not engine.core.has_work
    assert engine.blocks.num_used == 0
