"""What a report says of how it came about."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report import command


def test_a_command_names_files_but_not_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "large").mkdir(parents=True)
    words = ["/somewhere/replay_trace.py", "trace.jsonl", "--model", "models/large", "--speed", "0.25"]
    words += [f"--json={tmp_path}/new.json", "models/new.json", "--", "--name", "org/large"]
    assert command(words) == (
        "python -m benchmarks.replay_trace trace.jsonl --model large --speed 0.25 "
        "--json=new.json new.json -- --name org/large"
    )
