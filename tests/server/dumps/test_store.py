"""The folder of dumps: bounded, private, and no trouble for other files in it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from engine.errors import ConfigError
from server.dumps.store import DumpStore


def moment(second: int) -> str:
    return f"20260131T2359{second:02d}.000000Z"


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    store = DumpStore(tmp_path / "new" / "dumps", max_files=2, max_bytes=1000)
    path = store.write(moment(1), "req_1", {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_the_oldest_give_way_also_those_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "keep.json").write_text("mine")
    for second in range(3):
        DumpStore(tmp_path, max_files=3, max_bytes=10_000).write(moment(second), "r", {})
    store = DumpStore(tmp_path, max_files=3, max_bytes=10_000)
    store.write(moment(3), "r", {})
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [*(f"{moment(second)}-r.json" for second in (1, 2, 3)), "keep.json"]


def test_their_size_is_bounded(tmp_path: Path) -> None:
    store = DumpStore(tmp_path, max_files=100, max_bytes=1000)
    for second in range(5):
        store.write(moment(second), "r", {"text": "x" * 380})
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"{moment(second)}-r.json" for second in (3, 4)]
    with pytest.raises(OSError, match="dump_max_bytes"):
        store.write(moment(9), "r", {"text": "x" * 1000})


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="dump_requests"):
        DumpStore(tmp_path / "file", max_files=1, max_bytes=1)
