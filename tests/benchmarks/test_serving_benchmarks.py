"""The benchmarks of the serving path run to their end and say what they are asked for; how fast is none of a test's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "bench_host_step": ["--batches", "2", "--steps", "5", "--repeat", "1"],
    "bench_requests": ["--connections", "2", "--requests", "3", "--repeat", "1"],
    "bench_streams": ["--streams", "2", "--tokens", "4", "--repeat", "1"],
    "bench_token_path": ["--streams", "2", "--steps", "3", "--repeat", "1"],
    "bench_first_token": ["--words", "5", "--requests", "2", "--threads", "1"],
    "bench_prefix": ["--tokens", "1000", "--requests", "2", "--answer", "2", "--threads", "1", "--repeat", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_writes_its_rows_and_its_machine(name: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name], "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=1500)
    result = json.loads(file.read_text())
    assert result["machine"]["cpu"]
    assert result["rows"]
    assert all(row["value"] > 0 for row in result["rows"] if row["name"] != "time to first token over prefill")
