"""A tiny Llama on disk, and runs of the real engine over it, in this process."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import transformers

from cpu_ext.loader import find_compiler, load_library
from engine.core import EngineCore
from engine.errors import NativeLibraryError
from engine.messages import StepOutput
from engine.types import GenerationRequest, PromptLogprob, SamplingParams, TokenLogprob
from tests.engine.text import make_tokenizers

END_TOKEN = 0


@dataclass
class Answer:
    """Everything emitted for one choice."""

    token_ids: list[int] = field(default_factory=list)
    data: bytes = b""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    cached_tokens: int = 0
    prompt_logprobs: tuple[PromptLogprob, ...] = ()
    embedding: bytes = b""


def write_tiny_llama(directory: Path) -> transformers.LlamaForCausalLM:
    """A random float32 Llama of three layers with a byte-level tokenizer; its logits are far from flat."""
    tokenizer = make_tokenizers.byte_level()
    make_tokenizers.save(tokenizer, directory)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=END_TOKEN,
        )
    ).eval()
    model.save_pretrained(directory)
    return model


def require_native() -> None:
    """Skip the test where the native library cannot be had; a machine with a compiler has no excuse."""
    try:
        load_library()
    except NativeLibraryError:
        if find_compiler() is not None:
            raise
        pytest.skip("the native CPU library is not built and there is no C++ compiler to build it")


def greedy(request_id: str, prompt: Iterable[int], tokens: int, logprobs: int | None = None) -> GenerationRequest:
    """The likeliest `tokens` tokens, whatever they are."""
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, seed=0, logprobs=logprobs)
    return GenerationRequest(request_id, tuple(prompt), params)


def run(core: EngineCore, requests: Iterable[GenerationRequest]) -> dict[tuple[str, int], Answer]:
    """Queue all requests at once and step until each choice has finished."""
    for request in requests:
        core.add(request)
    answers: dict[tuple[str, int], Answer] = defaultdict(Answer)
    while core.has_work:
        _collect(core.step(), answers)
    return dict(answers)


def rewrite_config(directory: Path, **values: object) -> None:
    """Change entries of config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _collect(output: StepOutput, answers: dict[tuple[str, int], Answer]) -> None:
    if output.failures:
        raise RuntimeError(f"requests failed: {output.failures}")
    for delta in output.deltas:
        answer = answers[delta.request_id, delta.choice]
        answer.token_ids += delta.token_ids
        answer.data += delta.data
        answer.logprobs += delta.logprobs or ()
        answer.cached_tokens = delta.cached_tokens
        answer.embedding += delta.embedding or b""
        answer.prompt_logprobs += delta.prompt_logprobs or ()
