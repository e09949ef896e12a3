"""How the host and the sampling kernels tell each other about a step: the same bytes as in csrc/quire_cuda.h.

What goes there is one array of bytes: a ROW for each row of logits, then lists that rows point to, in words of 4 bytes
counted from the start of the array. What comes back is a RECORD for each row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.sampling.prompt_tokens import AskedToken
from engine.types import MAX_LOGPROBS

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

UNUSED, GREEDY, DRAWN = 0, 1, 2
"""Kinds of rows."""

NOT_FINITE, NOTHING_LEFT = 1, 2
"""What may be broken about a row: NaN or plus infinity in it, or minus infinity everywhere."""

NONE = -1
"""In place of a place: there is no such list, slot or wish."""

ROW = np.dtype(
    [
        ("seed", np.uint64),  # modulo 2^64
        ("top_p", np.uint64),  # as a fraction of 2^64; 0 keeps all
        ("kind", np.int32),
        ("choice", np.int32),
        ("position", np.int32),  # of the token to be chosen
        ("temperature", np.float32),
        ("top_k", np.int32),  # 0 keeps all
        ("min_p", np.float32),  # 0 keeps all
        ("repetition_penalty", np.float32),
        ("frequency_penalty", np.float32),
        ("presence_penalty", np.float32),
        ("slot", np.int32),  # of the counts of tokens seen, or NONE
        ("bias", np.int32),  # first word of its pairs (token, float32)
        ("biases", np.int32),
        ("forbidden", np.int32),  # first word of its tokens
        ("forbiddens", np.int32),
        ("mask", np.int32),  # first word of its bits, one for each token, 1 where it is allowed; or NONE
        ("logprobs", np.int32),  # alternatives to report, or NONE to report nothing
    ]
)

RECORD = np.dtype(
    [
        ("token", np.int32),
        ("broken", np.int32),  # 0, NOT_FINITE or NOTHING_LEFT; the rest means nothing then
        ("logprob", np.float64),
        ("top_tokens", np.int32, MAX_LOGPROBS),  # likeliest first; NONE where the vocabulary has no more
        ("top_logprobs", np.float64, MAX_LOGPROBS),
    ]
)

ASKED_BYTES = ROW.itemsize + 8
"""Of a row that asks for the log-probability of a given token: with one biased token."""

_CERTAIN = np.float32(1e30)
"""A bias that makes a token the likeliest of all, and leaves its logit finite."""

MOST_BIASES = 1024
"""Entries of `logit_bias` of one row."""

MOST_FORBIDDEN = 1024
"""End and stop tokens of one row together."""

SEEN_IN_PROMPT = 0x8000
"""Bit of a token's entry in the counts; the others count its occurrences in the answer."""

MOST_OCCURRENCES = SEEN_IN_PROMPT - 1
"""Of one token in one answer; further ones are not counted."""

_LEAST_TEMPERATURE = 1e-30
"""As for `draw_token`."""


def mask_words(vocab_size: int) -> int:
    """Words of a mask."""
    return -(-vocab_size // 32)


def most_bytes(rows: int, vocab_size: int) -> int:
    """Bytes that the description of so many rows takes at most."""
    return rows * (ROW.itemsize + 4 * (2 * MOST_BIASES + MOST_FORBIDDEN + mask_words(vocab_size)))


def describe_asked(asked: Sequence[AskedToken]) -> Bytes:
    """Rows that report what the model thinks of given tokens: each takes its token for certain.

    Returns:
        uint8 [ASKED_BYTES * rows].
    """
    rows = len(asked)
    table = np.zeros(rows, ROW)
    table["kind"] = GREEDY
    table["temperature"] = table["repetition_penalty"] = 1
    for name in ("slot", "forbidden", "mask"):
        table[name] = NONE
    table["bias"] = table.nbytes // 4 + 2 * np.arange(rows)
    table["biases"] = 1
    table["logprobs"] = [each.alternatives for each in asked]
    pairs = np.empty((rows, 2), np.uint32)
    pairs[:, 0] = [each.token_id for each in asked]
    pairs[:, 1] = _CERTAIN.view(np.uint32)
    return np.concatenate([table.view(np.uint8), pairs.reshape(-1).view(np.uint8)])


def as_fraction(top_p: float) -> int:
    """`top_p` below 1 in units of 2^-64, rounded down, at least one of them; 0 for 1, which keeps all."""
    return max(int(math.ldexp(top_p, 64)), 1) if top_p < 1 else 0


def as_temperature(temperature: float) -> float:
    """A temperature above 0 that does not vanish in float32."""
    return max(temperature, _LEAST_TEMPERATURE)


def count_tokens(token_ids: list[int], num_prompt: int, vocab_size: int) -> npt.NDArray[np.uint16]:
    """What has been seen of each token.

    Args:
        token_ids: prompt and answer.
        num_prompt: tokens of the prompt.
        vocab_size: entries wanted.

    Returns:
        uint16 [vocab_size], SEEN_IN_PROMPT and the occurrences in the answer.
    """
    tokens = np.array(token_ids, np.int64)
    occurrences = np.bincount(tokens[num_prompt:], minlength=vocab_size)
    counts = np.minimum(occurrences, MOST_OCCURRENCES).astype(np.uint16)
    counts[tokens[:num_prompt]] |= np.uint16(SEEN_IN_PROMPT)
    return counts
