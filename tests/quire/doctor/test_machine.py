from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from engine.free_memory import MemoryFiles
from quire.doctor import machine
from quire.doctor.machine import (
    check_files,
    check_hub_cache,
    check_memory,
    check_port,
    check_processor,
    check_temporary,
    hub_cache,
)


def memory_files(folder: Path, available_kib: int, limit: str | None = None) -> MemoryFiles:
    (folder / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kib} kB\n")
    (folder / "membership").write_text("0::/\n")
    group = folder / "cgroup"
    group.mkdir()
    if limit is not None:
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("0")
        (group / "memory.stat").write_text("inactive_file 0\nactive_file 0\nslab_reclaimable 0\nfile_mapped 0\n")
    return MemoryFiles(folder / "meminfo", folder / "membership", group)


def test_memory_of_the_machine(tmp_path: Path) -> None:
    finding = check_memory(memory_files(tmp_path, 8 * 2**20))
    assert (finding.level, finding.fact) == ("ok", "8.0 GiB free")


def test_a_control_group_that_allows_less_is_named(tmp_path: Path) -> None:
    finding = check_memory(memory_files(tmp_path, 8 * 2**20, str(2 * 2**30)))
    assert finding.fact == "2.0 GiB free (8.0 GiB on the machine; the control group allows less)"


def test_little_memory_is_a_warning(tmp_path: Path) -> None:
    assert check_memory(memory_files(tmp_path, 8 * 2**20, str(2**29))).level == "warning"


@pytest.mark.parametrize("limit", [None, "nonsense"])
def test_memory_that_cannot_be_told_is_a_warning(tmp_path: Path, limit: str | None) -> None:
    files = memory_files(tmp_path, 8 * 2**20, limit)
    if limit is None:
        files.meminfo.unlink()
    finding = check_memory(files)
    assert finding.level == "warning"
    assert "kv_cache_tokens" in finding.advice


def test_processor_counts_something() -> None:
    assert check_processor().level == "ok"


def test_a_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert check_port("127.0.0.1", port).level == "ok"


def test_a_taken_port_is_a_warning_for_it_may_be_quire_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        finding = check_port("127.0.0.1", listener.getsockname()[1])
    assert finding.level == "warning"
    assert "--port" in finding.advice


def test_an_address_that_is_not_ours_is_a_problem() -> None:
    assert check_port("192.0.2.1", 8000).level == "problem"


def test_temporary_files_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check_temporary().level == "ok"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert check_temporary().level == "problem"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, "~/.cache/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_huggingface_hub_has_it(environment: dict[str, str], expected: str) -> None:
    assert hub_cache(environment) == Path(expected).expanduser()


def test_a_hub_cache_that_can_still_be_made_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LITTLE_DISK", 0)
    assert check_hub_cache({"HF_HOME": str(tmp_path / "not" / "yet")}).level == "ok"


def test_a_hub_cache_below_a_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = check_hub_cache({"HF_HOME": str(tmp_path / "file")})
    assert finding.level == "warning"
    assert "HF_HOME" in finding.advice


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LITTLE_DISK", 2**80)
    assert check_hub_cache({"HF_HOME": str(tmp_path)}).level == "warning"


def test_files_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_files().level == "ok"
    sealed = tmp_path / "engine" / "core.py"
    sealed.parent.mkdir()
    sealed.touch()
    real = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != sealed and real(path, mode))
    finding = check_files(tmp_path)
    assert finding.level == "problem"
    assert str(sealed) in finding.fact
