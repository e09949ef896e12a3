"""A whole engine core around the toy runner, for tests that need no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.cache.block_manager import BlockManager
from engine.constraints.base import CompiledGrammar
from engine.constraints.grammar_builder import GrammarBuilder
from engine.core import EngineCore
from engine.messages import RequestFailed
from engine.pooling import PoolingParams
from engine.scheduling.scheduler import Scheduler
from engine.text.token_bytes import TokenBytes
from engine.types import GenerationRequest, GrammarSpec, ModelInfo, OutputDelta, SamplingParams
from tests.fakes.runner import ToyRunner

VOCAB_SIZE = 128
HIDDEN_SIZE = 3
EOS = 0
SPECIAL = 1


def toy_model(**changes: object) -> ModelInfo:
    """What the toy says about itself."""
    values: dict[str, object] = {
        "name": "toy",
        "path": "/nowhere/toy",
        "architecture": "Toy",
        "weight_format": "none",
        "bits_per_weight": 0.0,
        "head_bits_per_weight": 0.0,
        "parameters": 0,
        "weight_bytes": 0,
        "device": "cpu",
        "kernels": "none",
        "threads": 1,
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "max_model_len": 256,
        "block_size": 4,
        "kv_cache_tokens": 1024,
        "kv_cache_bytes": 0,
        "kv_cache_dtype": "none",
        "eos_token_ids": (EOS,),
        "load_seconds": 0.0,
    }
    return ModelInfo(**{**values, **changes})  # type: ignore[arg-type]


def toy_tokens() -> TokenBytes:
    """Every token is the character of its id; end of text and one more are special."""
    return TokenBytes([bytes([each]) for each in range(VOCAB_SIZE)], frozenset({EOS, SPECIAL}))


def request(request_id: str, prompt: list[int] | tuple[int, ...], **sampling: object) -> GenerationRequest:
    """A request with a seed; `ignore_eos` unless said otherwise, so that lengths are what the test asks for."""
    return GenerationRequest(
        request_id,
        tuple(prompt),
        SamplingParams(**{"seed": 7, "ignore_eos": True, **sampling}),  # type: ignore[arg-type]
    )


def pooled(request_id: str, prompt: Iterable[int], params: PoolingParams) -> GenerationRequest:
    """A request for the vector of a prompt."""
    return GenerationRequest(request_id, tuple(prompt), SamplingParams(max_tokens=0, seed=7), pooling=params)


class ToyCompiler:
    """A real compiler for the toy's tokens. What it needs is imported when somebody has a grammar: toys start often."""

    def compile(self, spec: GrammarSpec) -> CompiledGrammar:
        from engine.constraints.grammar import GrammarCompiler

        return GrammarCompiler(toy_tokens(), (EOS,)).compile(spec)


def toy_grammars() -> GrammarBuilder:
    """Compiles grammars for the toy's tokens."""
    return GrammarBuilder(ToyCompiler(), seconds=60)


@dataclass
class ToyEngine:
    """A core and its parts."""

    core: EngineCore
    blocks: BlockManager
    runner: ToyRunner


def toy_engine(
    *,
    num_blocks: int = 256,
    block_size: int = 4,
    max_model_len: int = 256,
    max_num_seqs: int = 16,
    max_num_batched_tokens: int = 64,
    prefix_caching: bool = True,
    runner: ToyRunner | None = None,
    max_step_seconds: float = 0.0,
    pipeline_depth: int = 0,
    request_timeout: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    grammars: GrammarBuilder | None = None,
) -> ToyEngine:
    """A toy engine of this size."""
    model = toy_model(max_model_len=max_model_len, block_size=block_size, kv_cache_tokens=num_blocks * block_size)
    blocks = BlockManager(num_blocks, block_size, prefix_caching=prefix_caching)
    scheduler = Scheduler(
        blocks,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_step_seconds=max_step_seconds,
    )
    runner = runner or ToyRunner(
        block_size, VOCAB_SIZE, max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs
    )
    runner.references = blocks.references
    core = EngineCore(
        model,
        scheduler,
        blocks,
        runner,
        toy_tokens(),
        grammars or toy_grammars(),
        pipeline_depth=pipeline_depth,
        request_timeout=request_timeout,
        clock=clock,
    )
    return ToyEngine(core, blocks, runner)


def run(core: EngineCore) -> tuple[dict[str, list[OutputDelta]], list[RequestFailed]]:
    """Step until nothing is left: the deltas of each request, and the failures."""
    deltas: dict[str, list[OutputDelta]] = {}
    failures: list[RequestFailed] = []
    while core.has_work:
        output = core.step()
        failures += output.failures
        for delta in output.deltas:
            deltas.setdefault(delta.request_id, []).append(delta)
    return deltas, failures


def choice_tokens(deltas: list[OutputDelta], choice: int = 0) -> list[int]:
    """All token ids of one choice."""
    return [token for delta in deltas if delta.choice == choice for token in delta.token_ids]
