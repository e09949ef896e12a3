"""When a token ends a choice, and how many tokens it may have."""

from __future__ import annotations

from collections.abc import Container

from engine.types import Finish, FinishReason, ModelInfo, SamplingParams


def finish_at_token(token_id: int, sampling: SamplingParams, end_token_ids: Container[int]) -> Finish | None:
    """How the choice ends if `token_id` ends it; such a token is no part of the answer.

    Args:
        token_id: the sampled token.
        sampling: of the request.
        end_token_ids: the model's own end tokens, which `ignore_eos` turns into ordinary ones.
    """
    if token_id in sampling.stop_token_ids:
        return Finish(FinishReason.STOP, token_id)
    if token_id in end_token_ids and not sampling.ignore_eos:
        return Finish(FinishReason.STOP)
    return None


def most_tokens(num_prompt: int, sampling: SamplingParams, model: ModelInfo) -> int:
    """Most tokens of a choice: what was asked for, as far as context and cache reach."""
    room = min(model.max_model_len, model.kv_cache_tokens) - num_prompt
    return room if sampling.max_tokens is None else min(sampling.max_tokens, room)
