"""The answer to a request for vectors."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from collections.abc import Sequence
from contextlib import aclosing

from engine.errors import RequestFailedError
from server.generation import Generation
from server.wire_json import to_json

LARGE = 1 << 18
"""Bytes of vectors from which they are written off the event loop."""


async def embedding_answer(generation: Generation, model: str, *, as_text: bool) -> bytes:
    """Run the inputs and write their vectors as one JSON body.

    Args:
        generation: one prompt per input.
        model: name to show.
        as_text: write vectors as base64, not as numbers.

    Raises:
        QuireError: as `Generation.deltas`.
    """
    vectors: list[bytes | None] = [None] * generation.choices
    async with aclosing(generation.deltas()) as deltas:
        async for choice, delta in deltas:
            vectors[choice] = delta.embedding
    told = [vector for vector in vectors if vector is not None]
    if len(told) < len(vectors):
        raise RequestFailedError("The engine ended without a vector for each input. Please try again.")
    tokens = generation.usage.prompt_tokens
    if sum(map(len, told)) >= LARGE:
        return await asyncio.to_thread(_body, told, model, tokens, as_text=as_text)
    return _body(told, model, tokens, as_text=as_text)


def _body(vectors: Sequence[bytes], model: str, tokens: int, *, as_text: bool) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if as_text else _numbers(vector)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return to_json({"object": "list", "data": data, "model": model, "usage": usage})


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _numbers(vector: bytes) -> list[float]:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
