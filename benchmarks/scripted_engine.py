"""An engine whose model is a script: it costs no arithmetic, so what is measured around it is everything else.

As a program it is the engine process, `python -m benchmarks.scripted_engine FD LEVEL FORM`; the variable
`SCRIPTED_STEP_MS` says how long its steps sleep.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from engine.cache.block_manager import BlockManager
from engine.config import EngineConfig
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_builder import GrammarBuilder
from engine.core import EngineCore
from engine.load_report import LoadReport
from engine.logs import LogSettings, configure_logging
from engine.scheduling.batch import SampledToken, ScheduledBatch, StepOutcome
from engine.scheduling.scheduler import Scheduler
from engine.step_loop import run_engine_process
from engine.text.token_bytes import TokenBytes, token_bytes
from engine.text.tokenizer import load_tokenizer
from engine.types import ModelInfo

STEP_MS = "SCRIPTED_STEP_MS"
MAX_MODEL_LEN = 131072
KV_CACHE_TOKENS = 262144


class ScriptedRunner:
    """Samples the same sequence of ordinary words for everybody.

    Args:
        words: token ids to go through, again and again.
        step_seconds: how long a step sleeps.
    """

    def __init__(self, words: list[int], step_seconds: float = 0.0) -> None:
        self._words = words
        self._step_seconds = step_seconds
        self._steps = 0

    def submit(self, batch: ScheduledBatch) -> ScheduledBatch:
        """Nothing to start."""
        return batch

    def collect(self, handle: ScheduledBatch) -> StepOutcome:
        """The next word for each sequence that samples, with log-probabilities where they are asked for."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        self._steps += 1
        word = self._words[self._steps % len(self._words)]
        sampled = (self._token(word, item.sequence.sampling.logprobs) if item.sample else None for item in handle.items)
        return StepOutcome(list(sampled))

    def _token(self, word: int, logprobs: int | None) -> SampledToken:
        if logprobs is None:
            return SampledToken(word, None, ())
        return SampledToken(word, -0.5, tuple((self._words[rank], -0.5 - rank) for rank in range(logprobs)))


def ordinary_words(tokens: TokenBytes) -> list[int]:
    """Tokens of a space and a few letters, as most of a text is made of."""
    known = [(index, tokens.of(index)) for index in range(len(tokens)) if index not in tokens.special]
    return [index for index, data in known if 4 <= len(data) <= 6 and data[:1] == b" " and data[1:].isalpha()][:512]


def build(config: EngineConfig, step_seconds: float | None = None) -> tuple[EngineCore, ModelInfo]:
    """An engine core with the tokenizer of `config.model` and a scripted runner."""
    if step_seconds is None:
        step_seconds = float(os.environ.get(STEP_MS, "0")) / 1000
    tokenizer = load_tokenizer(Path(config.model))
    tokens = token_bytes(tokenizer, tokenizer.vocab_size)
    blocks = BlockManager(KV_CACHE_TOKENS // config.block_size, config.block_size, prefix_caching=config.prefix_caching)
    scheduler = Scheduler(
        blocks, max_num_seqs=config.max_num_seqs, max_num_batched_tokens=config.max_num_batched_tokens
    )
    model = describe(config, tokenizer.vocab_size)
    runner = ScriptedRunner(ordinary_words(tokens), step_seconds)
    grammars = GrammarBuilder(GrammarCompiler(tokens, model.eos_token_ids), config.grammar_timeout)
    return EngineCore(model, scheduler, blocks, runner, tokens, grammars), model


def load(config: EngineConfig, report: LoadReport) -> tuple[EngineCore, ModelInfo]:
    """`build`, for an engine process."""
    report.checked()
    return build(config)


def describe(config: EngineConfig, vocab_size: int) -> ModelInfo:
    """What the engine says about itself."""
    return ModelInfo(
        name="scripted",
        path=config.model,
        architecture="Scripted",
        weight_format="none",
        bits_per_weight=0.0,
        head_bits_per_weight=0.0,
        parameters=0,
        weight_bytes=0,
        device="cpu",
        kernels="none",
        threads=1,
        vocab_size=vocab_size,
        hidden_size=1,
        max_model_len=MAX_MODEL_LEN,
        block_size=config.block_size,
        kv_cache_tokens=KV_CACHE_TOKENS,
        kv_cache_bytes=0,
        kv_cache_dtype="none",
        eos_token_ids=(),
        load_seconds=0.0,
    )


if __name__ == "__main__":
    configure_logging(LogSettings(*sys.argv[2:]))
    run_engine_process(int(sys.argv[1]), load)
