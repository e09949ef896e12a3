"""Slow and plain versions of the sampling rules in Python floats, written from their definitions."""

from __future__ import annotations

import itertools
import math

from engine.types import SamplingParams


def distribution(logits: list[float], params: SamplingParams) -> list[tuple[int, float]]:
    """(id, probability) of the tokens that top-k, then top-p, then min-p leave, likeliest first."""
    largest = max(logits)
    weights = [math.exp((logit - largest) / params.temperature) for logit in logits]
    kept = sorted(enumerate(weights), key=lambda entry: (-entry[1], entry[0]))
    if params.top_k > 0:
        kept = kept[: params.top_k]
    if params.top_p < 1:
        kept = _nucleus(_normalised(kept), params.top_p)
    if params.min_p > 0:
        bar = params.min_p * kept[0][1]
        kept = [entry for entry in kept if entry[1] >= bar]
    return _normalised(kept)


def draw(logits: list[float], params: SamplingParams, uniform: float) -> int:
    """The token at which the distribution function first exceeds the uniform number."""
    reached = 0.0
    kept = distribution(logits, params)
    for token, probability in kept:
        reached += probability
        if reached > uniform:
            return token
    return kept[-1][0]


def plausible_draws(logits: list[float], params: SamplingParams, uniform: float) -> set[int]:
    """Tokens that may be drawn when numbers on the edge of a rule are moved by rounding in single precision."""
    nudges = (1 - 2e-6, 1.0, 1 + 2e-6)
    return {
        draw(logits, _nudged(params, by_p, by_min), min(uniform * by_u, 1 - 2**-53))
        for by_u, by_p, by_min in itertools.product(nudges, nudges, nudges)
    }


def penalized(logits: list[float], prompt: list[int], answer: list[int], params: SamplingParams) -> list[float]:
    """Logits after bias and penalties."""
    result = [logit + params.logit_bias.get(token, 0.0) for token, logit in enumerate(logits)]
    for token in set(prompt + answer):
        factor = params.repetition_penalty
        result[token] = result[token] / factor if result[token] > 0 else result[token] * factor
    for token in set(answer):
        result[token] -= params.frequency_penalty * answer.count(token) + params.presence_penalty
    return result


def _normalised(entries: list[tuple[int, float]]) -> list[tuple[int, float]]:
    total = math.fsum(weight for _, weight in entries)
    return [(token, weight / total) for token, weight in entries]


def _nucleus(entries: list[tuple[int, float]], top_p: float) -> list[tuple[int, float]]:
    reached = 0.0
    for count, (_, probability) in enumerate(entries, 1):
        reached += probability
        if reached >= top_p:
            return entries[:count]
    return entries


def _nudged(params: SamplingParams, by_p: float, by_min: float) -> SamplingParams:
    return SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=min(params.top_p * by_p, 1.0) if params.top_p < 1 else 1.0,
        min_p=min(params.min_p * by_min, 1.0),
    )
