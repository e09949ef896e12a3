"""Seeds, from the body of a request to what the engine draws with; the engine process runs the toy model."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText

TOY = EngineConfig(model="toy", block_size=4, kv_cache_tokens=1024, max_num_seqs=16, max_num_batched_tokens=64)
PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def answers(text: ModelText) -> list[list[str]]:
    """Texts of the choices of one request without a seed, and of two with one."""
    bodies: list[dict[str, Any]] = [
        {"prompt": [PROMPT] * 4},
        {"prompt": [PROMPT] * 3, "seed": -1, "n": 2},
        {"prompt": PROMPT, "seed": -1, "n": 2},
    ]

    async def main() -> list[list[str]]:
        engine = await AsyncEngine.start(TOY, module="tests.fakes.toy_process")
        try:
            transport = httpx.ASGITransport(create_app(engine, text, ServerConfig()))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return [await texts(client, body) for body in bodies]
        finally:
            await engine.close()

    async def texts(client: httpx.AsyncClient, body: dict[str, Any]) -> list[str]:
        response = await client.post("/v1/completions", json={**body, "ignore_eos": True, "skip_special_tokens": False})
        return [choice["text"] for choice in response.json()["choices"]]

    return asyncio.run(main())


def test_equal_prompts_without_a_seed_get_different_answers(answers: list[list[str]]) -> None:
    assert len(set(answers[0])) == 4


def test_a_given_seed_is_that_of_every_prompt_and_choices_differ(answers: list[list[str]]) -> None:
    assert answers[1] == answers[2] * 3
    assert len(set(answers[2])) == 2
