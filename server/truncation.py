"""Cuts prompts that are too long, where the client said so and on which side, and counts what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.admission import RequestLimits
from engine.errors import InvalidRequestError
from server.schemas.truncation import Truncation, TruncationFields

HEADER = "x-quire-truncated-tokens"


class Cut(NamedTuple):
    """A prompt that may have been cut, and how many of its tokens were left out."""

    token_ids: list[int]
    left_out: int


def wanted_truncation(body: TruncationFields) -> Truncation | None:
    """How prompts of this request may be cut; None for not at all.

    Raises:
        InvalidRequestError: the fields contradict each other.
    """
    most, side = body.truncate_prompt_tokens, body.truncation_side
    if body.truncation is not None and (most is not None or side is not None):
        raise InvalidRequestError(
            "'truncation' says the same as 'truncate_prompt_tokens' and 'truncation_side'. Send one or the other.",
            param="truncation",
        )
    if most is None:
        if side is not None:
            raise InvalidRequestError("'truncation_side' needs 'truncate_prompt_tokens'.", param="truncation_side")
        return body.truncation if isinstance(body.truncation, Truncation) else None
    if most == 0:
        raise InvalidRequestError(
            "'truncate_prompt_tokens' must leave at least one token, or be -1 for what leaves room for the answer.",
            param="truncate_prompt_tokens",
        )
    return Truncation(side=side or "left", max_tokens=None if most < 0 else most)


def room_for_prompt(wanted: Truncation, limits: RequestLimits, answer_tokens: int | None) -> int:
    """Most tokens a prompt may have.

    The answer gets what it asks for, but no more than half of the context; a quarter, if it does not say; nothing, if
    there is to be none.

    Args:
        wanted: how prompts may be cut.
        limits: of the model.
        answer_tokens: most tokens of the answer; None where the request does not say.
    """
    context = min(limits.max_model_len, limits.kv_cache_tokens)
    answer = context // 4 if answer_tokens is None else min(answer_tokens, context // 2)
    room = max(context - (answer if answer_tokens == 0 else max(answer, 1)), 1)
    return room if wanted.max_tokens is None else min(wanted.max_tokens, room)


def cut(prompt: Sequence[int], side: str, room: int, bos_token_id: int | None) -> Cut:
    """The prompt with at most `room` tokens.

    Args:
        prompt: token ids.
        side: where tokens are left out.
        room: as of `room_for_prompt`.
        bos_token_id: what texts begin with; a prompt that does goes on doing so.
    """
    excess = len(prompt) - room
    if excess <= 0:
        return Cut(list(prompt), 0)
    if side == "right":
        return Cut(list(prompt[:room]), excess)
    kept = 1 if prompt[0] == bos_token_id and room > 1 else 0
    return Cut([*prompt[:kept], *prompt[kept + excess :]], excess)
