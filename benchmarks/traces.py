"""Recorded arrivals of requests: reading them, and making them fit a machine and a model.

Two public forms are read, plain or gzipped: Azure's LLM inference traces (CSV: time, prompt tokens, generated tokens)
and Mooncake's (JSON lines: the same, and ids of blocks of 512 prompt tokens, equal where prompts begin equally).
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

BLOCK_TOKENS = 512
"""Prompt tokens that one id of a Mooncake trace stands for."""

TOKEN_IDS = range(10, 1000)
"""Prompts are made of these; every vocabulary has them, and few of them are special anywhere."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of a trace.

    Attributes:
        at: when it comes, in seconds from the start of the trace.
        prompt_tokens: length of its prompt.
        answer_tokens: length of its answer.
        blocks: ids of the prompt's blocks; empty where the trace tells nothing of contents.
        block_tokens: prompt tokens in each of these.
    """

    at: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS


def read_trace(path: Path) -> list[Arrival]:
    """All requests of a trace, by time of arrival.

    Raises:
        ValueError: the file has neither form.
    """
    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    lines = text.splitlines()
    try:
        arrivals = _mooncake(lines) if text.startswith("{") else _azure(lines)
    except (KeyError, ValueError, TypeError) as problem:
        raise ValueError(f"{path} is neither an Azure nor a Mooncake trace: {problem!r}") from problem
    arrivals.sort(key=lambda each: each.at)
    return [replace(each, at=each.at - arrivals[0].at) for each in arrivals]


def _azure(lines: Iterable[str]) -> list[Arrival]:
    return [
        Arrival(_seconds(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for row in csv.DictReader(lines)
    ]


def _seconds(stamp: str) -> float:
    """Of a date and time with any number of decimals."""
    whole, _, fraction = stamp.partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _mooncake(lines: Iterable[str]) -> list[Arrival]:
    rows = (json.loads(line) for line in lines if line)
    return [
        Arrival(row["timestamp"] / 1000, row["input_length"], row["output_length"], tuple(row["hash_ids"]))
        for row in rows
    ]


def length_factor(arrivals: Sequence[Arrival], context: int, share: float = 0.9) -> float:
    """By what to multiply lengths so that this share of the requests fits a context; at most 1."""
    totals = sorted(each.prompt_tokens + each.answer_tokens for each in arrivals)
    return min(1.0, context / totals[int(share * (len(totals) - 1))])


def scaled(arrival: Arrival, factor: float, speed: float, context: int) -> Arrival:
    """The same request with other lengths, sooner, and cut where it would still not fit.

    Args:
        arrival: of the trace.
        factor: for the lengths.
        speed: seconds of the trace per second.
        context: most tokens of prompt and answer together.
    """
    answer = min(max(1, round(arrival.answer_tokens * factor)), context // 2)
    prompt = min(max(1, round(arrival.prompt_tokens * factor)), context - answer)
    block = max(1, round(arrival.block_tokens * factor))
    return Arrival(arrival.at / speed, prompt, answer, arrival.blocks, block)


def prompt_of(arrival: Arrival, number: int) -> list[int]:
    """Token ids: equal blocks give equal tokens, and prompts without blocks have nothing in common.

    Args:
        arrival: the request.
        number: of the request, different for each.
    """
    if not arrival.blocks:
        return random.Random(f"request {number}").choices(TOKEN_IDS, k=arrival.prompt_tokens)
    tokens: list[int] = []
    for block in arrival.blocks:
        if len(tokens) >= arrival.prompt_tokens:
            break
        tokens += random.Random(f"block {block}").choices(TOKEN_IDS, k=arrival.block_tokens)
    missing = arrival.prompt_tokens - len(tokens)
    return tokens[: arrival.prompt_tokens] + random.Random(f"end {number}").choices(TOKEN_IDS, k=max(0, missing))
