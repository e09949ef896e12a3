from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.traces import Arrival, length_factor, prompt_of, read_trace, scaled

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
MOONCAKE = [
    {"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]},
    {"timestamp": 1000, "input_length": 1024, "output_length": 7, "hash_ids": [0, 2]},
]
LENGTHS = st.integers(min_value=0, max_value=200_000)


def test_azure_traces(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(AZURE)
    first, second = read_trace(tmp_path / "trace.csv")
    assert first == Arrival(0.0, 374, 44)
    assert (second.at, second.prompt_tokens, second.answer_tokens) == (pytest.approx(4.314579), 396, 109)


def test_gzipped_mooncake_traces_come_in_order(tmp_path: Path) -> None:
    (tmp_path / "trace.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, MOONCAKE)).encode()))
    assert read_trace(tmp_path / "trace.gz") == [Arrival(0.0, 1024, 7, (0, 2)), Arrival(2.0, 600, 5, (0, 1))]


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n", '{"timestamp": 1}\n', "TIMESTAMP,ContextTokens,GeneratedTokens\nx,1,1"]
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trace").write_text(content)
    with pytest.raises(ValueError, match="neither an Azure nor a Mooncake trace"):
        read_trace(tmp_path / "trace")


@given(LENGTHS, LENGTHS, st.floats(min_value=0.001, max_value=1), st.integers(min_value=2, max_value=4096))
def test_what_is_scaled_fits(prompt: int, answer: int, factor: float, context: int) -> None:
    arrival = scaled(Arrival(9.0, prompt, answer), factor, 3.0, context)
    assert arrival.at == 3.0
    assert arrival.prompt_tokens >= 1
    assert arrival.answer_tokens >= 1
    assert arrival.prompt_tokens + arrival.answer_tokens <= context
    assert len(prompt_of(arrival, 0)) == arrival.prompt_tokens


def test_the_factor_lets_most_fit_and_makes_nothing_longer() -> None:
    trace = [Arrival(0.0, length, 0) for length in range(1, 101)]
    assert length_factor(trace, 45) == pytest.approx(0.5)
    assert length_factor(trace, 4096) == 1


def test_prompts_share_what_their_blocks_share() -> None:
    one = scaled(Arrival(0.0, 1024, 7, (0, 2)), 0.25, 1.0, 2048)
    other = scaled(Arrival(0.0, 600, 5, (0, 1)), 0.25, 1.0, 2048)
    first, second = prompt_of(one, 0), prompt_of(other, 1)
    assert (len(first), len(second)) == (256, 150)
    assert first[:128] == second[:128]
    assert first[128:150] != second[128:]
    assert prompt_of(one, 5) == first
    assert prompt_of(Arrival(0.0, 50, 1), 0) != prompt_of(Arrival(0.0, 50, 1), 1)
