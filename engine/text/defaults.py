"""What a model's own files say about how it wants to be sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError
from engine.model_files import read_json_object
from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """Values for requests that do not give their own; None where the model says nothing.

    As in vLLM, the sampling values of generation_config.json are taken as they stand and its `do_sample` is not
    looked at: published models often leave it out or false next to a temperature they clearly mean.

    Attributes:
        temperature, top_p, top_k, min_p, repetition_penalty: as in `SamplingParams`.
        max_tokens: `max_new_tokens` of the file.
        eos_token_ids: tokens that end an answer, ascending; generation_config.json wins over config.json.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    eos_token_ids: tuple[int, ...] = ()


def generation_defaults(directory: Path, tokenizer: Tokenizer | None = None) -> GenerationDefaults:
    """Read generation_config.json and, for end tokens it does not name, config.json.

    Args:
        directory: the model directory; both files may be missing.
        tokenizer: its `eos_token` counts as an end token too, since chat models' configs often name only the base
            model's.

    Raises:
        CheckpointError: a file is corrupt, or a value has the wrong type or range; the message names it.
    """
    path = directory / "generation_config.json"
    generation = read_json_object(path, CheckpointError) or {}
    config_path = directory / "config.json"
    config = read_json_object(config_path, CheckpointError) or {}
    eos = _token_ids(generation, path) or _token_ids(config, config_path)
    if tokenizer is not None and tokenizer.eos_token_id is not None:
        eos |= {tokenizer.eos_token_id}
    top_k = _number(generation, "top_k", path, low=-1, high=math.inf)
    max_tokens = _number(generation, "max_new_tokens", path, low=1, high=math.inf)
    return GenerationDefaults(
        temperature=_number(generation, "temperature", path, low=0, high=100),
        top_p=_number(generation, "top_p", path, low=math.nextafter(0, 1), high=1),
        top_k=None if top_k is None else int(top_k),
        min_p=_number(generation, "min_p", path, low=0, high=1),
        repetition_penalty=_number(generation, "repetition_penalty", path, low=1e-3, high=100),
        max_tokens=None if max_tokens is None else int(max_tokens),
        eos_token_ids=tuple(sorted(eos)),
    )


def _number(config: Mapping[str, Any], key: str, path: Path, *, low: float, high: float) -> float | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"{path}: {key} must be a number, not {value!r}.")
    if not (low <= value <= high and math.isfinite(value)):  # also refuses NaN, which JSON readers let through
        raise CheckpointError(f"{path}: {key} is out of range: {value!r}.")
    return value


def _token_ids(config: Mapping[str, Any], path: Path) -> set[int]:
    value = config.get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for token_id in ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
            raise CheckpointError(f"{path}: eos_token_id must be a token id or a list of them, not {value!r}.")
    return set(ids)
