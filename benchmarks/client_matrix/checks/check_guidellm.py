"""GuideLLM, a load generator: four streams at a time, prompts of its own, and the figures it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

MODEL = Path(__file__).resolve().parents[3] / "demo" / "quire-demo"
REQUESTS = 12
OUTPUT_TOKENS = 16


def benchmark(server: Server, folder: Path, **backend: str) -> dict[str, Any]:
    report = folder / "report.json"
    options = {
        "--backend": {"kind": "openai_http", "target": server.root, "api_key": server.key, **backend},
        "--profile": {"kind": "concurrent", "streams": 4},
        "--constraint": {"kind": "max_requests", "count": REQUESTS},
        "--tokenizer": {"kind": "huggingface_auto", "model": MODEL},
        "--data": {"kind": "synthetic_text", "prompt_tokens": 32, "output_tokens": OUTPUT_TOKENS},
        "--output": {"kind": "json", "path": report},
    }
    words = [word for name, of in options.items() for word in (name, ",".join(f"{k}={v}" for k, v in of.items()))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-m", "guidellm", "run", "--disable-console", *words], check=True, timeout=500, env=environment
    )
    (result,) = json.loads(report.read_text())["benchmarks"]
    return dict(result)


def test_streaming_under_load_with_usage(server: Server, tmp_path: Path) -> None:
    result = benchmark(server, tmp_path)
    totals = result["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0)
    assert result["metrics"]["output_token_count"]["successful"]["mean"] == OUTPUT_TOKENS
    assert result["metrics"]["time_to_first_token_ms"]["successful"]["mean"] > 0
    assert result["metrics"]["inter_token_latency_ms"]["successful"]["mean"] > 0


def test_streaming_completions(server: Server, tmp_path: Path) -> None:
    totals = benchmark(server, tmp_path, request_format="/v1/completions")["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0)


@pytest.mark.skip(reason="it measures plain streams; the other columns are not its business")
def test_plain() -> None: ...
