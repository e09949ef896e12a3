"""The model writes text itself: what the quantizer calibrates on when it is given none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from engine.types import GenerationRequest, SamplingParams


class EngineTextGenerator:
    """Implements the quantizer's `TextGenerator` with an engine process. Made by `open_text_generator`.

    Args:
        runner: event loop the engine lives in; it runs only while texts are written.
        engine: the engine.
    """

    def __init__(self, runner: asyncio.Runner, engine: AsyncEngine) -> None:
        self._runner = runner
        self._engine = engine

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        """The continuation of every prompt; see `quantize.calibration.TextGenerator`.

        Raises:
            QuireError: the engine failed.
        """
        return self._runner.run(self._generate(prompts_token_ids, max_tokens, seed))

    async def _generate(self, prompts: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        requests = [
            # a seed of its own for each, or equal prompts would get equal texts
            GenerationRequest(
                str(index), tuple(prompt), SamplingParams(max_tokens=max_tokens, temperature=1.0, seed=seed + index)
            )
            for index, prompt in enumerate(prompts)
        ]
        return await asyncio.gather(*(_token_ids(self._engine, request) for request in requests))


@contextmanager
def open_text_generator(config: EngineConfig) -> Iterator[EngineTextGenerator]:
    """Start an engine for the duration of a `with` block; behind it, its memory is free for the work that follows.

    Args:
        config: engine settings; `model` is the directory of the model that writes.

    Raises:
        QuireError: the model cannot be loaded.
    """
    with asyncio.Runner() as runner:
        engine = runner.run(AsyncEngine.start(config))
        try:
            yield EngineTextGenerator(runner, engine)
        finally:
            runner.run(engine.close())


async def _token_ids(engine: AsyncEngine, request: GenerationRequest) -> list[int]:
    ids: list[int] = []
    deltas = engine.generate(request)
    async with aclosing(deltas):
        async for delta in deltas:
            ids += delta.token_ids
    return ids
