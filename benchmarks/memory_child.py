"""The engine process that `bench_memory` watches: it says what phase it has reached and waits to be told to go on."""

from __future__ import annotations

import ctypes
import json
import random
import sys
import time

from engine.build import build_engine
from engine.config import EngineConfig
from engine.core import EngineCore
from engine.ops.select import select_backend
from engine.types import GenerationRequest, SamplingParams

PR_SET_THP_DISABLE = 41

LENGTH = 1024
SEQUENCES = 32
ANSWER = 12
HARD = SamplingParams(
    n=8,
    max_tokens=ANSWER,
    min_tokens=ANSWER,
    temperature=1.0,
    top_p=0.9,
    top_k=1000,
    repetition_penalty=1.2,
    frequency_penalty=0.5,
    logit_bias=dict.fromkeys(range(300), 1.0),
    logprobs=20,
    seed=1,
    stop=("\n" * 50, "never said"),
)


def main() -> None:
    """Load, answer four short requests, then as many rounds of hard ones as asked for."""
    model, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _use_small_pages()
    select_backend("auto", "auto", threads)
    _tell({})
    started = time.perf_counter()
    core, info = build_engine(
        EngineConfig(
            model=model, threads=threads, max_model_len=LENGTH, max_num_seqs=SEQUENCES, kv_cache_tokens=8 * LENGTH
        )
    )
    seconds = time.perf_counter() - started
    _tell({"weights": info.weight_bytes, "cache": info.kv_cache_bytes, "seconds": seconds})
    _ask(core, "first", 4, 16, SamplingParams(max_tokens=4, seed=0))
    _tell({})
    for turn in range(rounds):
        _ask(core, f"long-{turn}", 8, LENGTH - ANSWER, HARD)
        _ask(core, f"many-{turn}", SEQUENCES, 16, HARD)
        _ask(core, f"judged-{turn}", 8, LENGTH, SamplingParams(max_tokens=0, seed=0, prompt_logprobs=20))
        _tell({})


def _use_small_pages() -> None:
    """Where the system gives huge pages to everybody, one byte would count as 2 MiB."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _ask(core: EngineCore, name: str, requests: int, length: int, params: SamplingParams) -> None:
    """Have so many prompts of so many tokens answered side by side."""
    draw = random.Random(name)
    for index in range(requests):
        prompt = tuple(draw.randrange(3, core.model.vocab_size) for _ in range(length))
        core.add(GenerationRequest(f"{name}-{index}", prompt, params))
    while core.has_work:
        failures = core.step().failures
        if failures:
            raise RuntimeError(str(failures[0]))


def _tell(facts: dict[str, float]) -> None:
    print(json.dumps(facts), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
