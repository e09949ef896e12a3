"""Says to a client that asks why its prompt was not found in the prefix cache: where it departs from a recent one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from engine.errors import InvalidRequestError
from engine.text.tokenizer import Tokenizer
from server.dependencies import caller_of
from server.models.served import ServedModel
from server.observability.recent_prompts import RecentPrompt, RecentPrompts

ASK = "x-quire-debug"
ANSWER = "x-quire-prefix"

TOKENS_BEFORE, TOKENS_AFTER = 4, 6
MAX_TEXT = 24
"""Most characters shown of one token."""


async def prefix_headers(request: Request, model: ServedModel, prompt: Sequence[int]) -> Mapping[str, str]:
    """The header with the report, for a request that asks for it with `x-quire-debug: prefix`; otherwise none.

    Args:
        request: who asks.
        model: with the recent prompts; the present one is not yet among them.
        prompt: token ids.

    Raises:
        InvalidRequestError: something else is asked for.
    """
    asked = request.headers.get(ASK)
    if asked is None:
        return {}
    if asked.strip().lower() != "prefix":
        raise InvalidRequestError(f"The header '{ASK}' must be 'prefix'; there is nothing else to ask for.", param=ASK)
    recent = model.recent_prompts
    candidates = recent.of(caller_of(request) or "")
    # long prompts take a while to compare and to spell
    report = await asyncio.to_thread(_report, recent, candidates, prompt, model)
    return {ANSWER: json.dumps(report)}


def _report(
    recent: RecentPrompts, candidates: Sequence[RecentPrompt], prompt: Sequence[int], model: ServedModel
) -> dict[str, Any]:
    block = model.block_size
    report: dict[str, Any] = {"prompt_tokens": len(prompt), "block_size": block, "recent_prompts": len(candidates)}
    match = recent.nearest(candidates, prompt)
    if match is None:
        return report
    at, tokenizer = match.common, model.text.tokenizer
    return {
        **report,
        "same_tokens": at,
        # whole blocks only; and the last token is always computed, for its logits
        "reusable_tokens": min(at, len(prompt) - 1) // block * block,
        "first_difference": at if at < min(len(prompt), len(match.tokens)) else None,
        "in_answer": at >= match.prompt_tokens,
        "before": _spelled(prompt[max(at - TOKENS_BEFORE, 0) : at], tokenizer),
        "here": _spelled(prompt[at : at + TOKENS_AFTER], tokenizer),
        "there": _spelled(match.tokens[at : at + TOKENS_AFTER], tokenizer),
        "seconds_ago": round(match.seconds_ago, 3),
    }


def _spelled(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([each], skip_special_tokens=False)[:MAX_TEXT] for each in ids]
