"""The model writes text itself: what the quantizer calibrates on when it is given none."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from engine.types import GenerationRequest, SamplingParams


class EngineTextGenerator:
    """Implements the quantizer's `TextGenerator` with an engine process.

    The process lives for one call only: its memory is free again for the work that follows.

    Args:
        config: engine settings; `model` is the directory of the model that writes.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        """The continuation of every prompt; see `quantize.calibration.TextGenerator`.

        Raises:
            QuireError: the model cannot be loaded or fails.
        """
        return asyncio.run(self._generate(prompts_token_ids, max_tokens, seed))

    async def _generate(self, prompts: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        engine = await AsyncEngine.start(self._config)
        try:
            requests = [
                # a seed of its own for each, or equal prompts would get equal texts
                GenerationRequest(
                    str(index), tuple(prompt), SamplingParams(max_tokens=max_tokens, temperature=1.0, seed=seed + index)
                )
                for index, prompt in enumerate(prompts)
            ]
            return await asyncio.gather(*(_token_ids(engine, request) for request in requests))
        finally:
            await engine.close()


async def _token_ids(engine: AsyncEngine, request: GenerationRequest) -> list[int]:
    ids: list[int] = []
    deltas = engine.generate(request)
    async with aclosing(deltas):
        async for delta in deltas:
            ids += delta.token_ids
    return ids
