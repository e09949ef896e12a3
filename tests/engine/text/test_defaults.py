from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CheckpointError
from engine.text.defaults import GenerationDefaults, generation_defaults
from engine.text.tokenizer import load_tokenizer
from tests.engine.text.make_tokenizers import save, sentencepiece


def write(directory: Path, generation: Any = None, config: Any = None) -> Path:
    for name, value in (("generation_config.json", generation), ("config.json", config)):
        if value is not None:
            (directory / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return directory


def test_no_files_mean_no_opinion(tmp_path: Path) -> None:
    assert generation_defaults(tmp_path) == GenerationDefaults()


def test_values_are_taken_whatever_do_sample_says(tmp_path: Path) -> None:
    values = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "repetition_penalty": 1.05}
    write(tmp_path, {**values, "do_sample": False, "max_new_tokens": 2048, "eos_token_id": [7, 3]})
    assert generation_defaults(tmp_path) == GenerationDefaults(**values, max_tokens=2048, eos_token_ids=(3, 7))


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": 5}, {"eos_token_id": 9}, (5,)),
        ({}, {"eos_token_id": 9}, (9,)),
        ({"eos_token_id": None}, {"eos_token_id": [9, 8]}, (8, 9)),
        (None, None, ()),
    ],
)
def test_end_tokens(tmp_path: Path, generation: Any, config: Any, expected: tuple[int, ...]) -> None:
    assert generation_defaults(write(tmp_path, generation, config)).eos_token_ids == expected


def test_the_tokenizers_end_token_counts_too(tmp_path: Path) -> None:
    write(tmp_path, {"eos_token_id": 0})
    tokenizer = load_tokenizer(save(sentencepiece(), tmp_path, {"eos_token": "</s>"}))
    assert generation_defaults(tmp_path, tokenizer).eos_token_ids == (0, 2)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ("{", "generation_config.json is not valid JSON"),
        ('{"temperature": NaN}', "temperature is out of range: nan"),
        ('{"temperature": Infinity}', "temperature is out of range"),
        ({"temperature": -1}, "temperature is out of range: -1"),
        ({"top_p": 0}, "top_p is out of range"),
        ({"top_p": "0.9"}, "top_p must be a number, not '0.9'"),
        ({"top_k": True}, "top_k must be a number"),
        ({"eos_token_id": "</s>"}, "eos_token_id must be a token id or a list"),
        ({"eos_token_id": [1, -2]}, "eos_token_id must be a token id or a list"),
    ],
)
def test_bad_values_name_file_and_key(tmp_path: Path, generation: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        generation_defaults(write(tmp_path, generation))


def test_real_model(shared: Path) -> None:
    defaults = generation_defaults(shared / "models" / "quire-demo")
    assert defaults == GenerationDefaults(temperature=0.3, top_p=0.9, eos_token_ids=(0, 2))
