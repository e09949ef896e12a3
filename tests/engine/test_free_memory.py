"""Free memory as the kernel's files tell it, through every kind of control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import CapacityError
from engine.free_memory import MemoryFiles, free_memory

GIB = 2**30


@pytest.fixture
def files(tmp_path: Path) -> MemoryFiles:
    """A machine with 8 GiB available and no control groups."""
    found = MemoryFiles(tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups")
    found.meminfo.write_text("MemTotal:  16777216 kB\nMemFree:  1048576 kB\nMemAvailable:  8388608 kB\nHugePages: 0\n")
    found.hierarchy.mkdir()
    return found


def v2_group(path: Path, limit: int | str, usage: int, stat: str = "anon 0\n") -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{usage}\n")
    (path / "memory.stat").write_text(stat)


def v1_group(path: Path, limit: int, usage: int, stat: str = "cache 0\n") -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (path / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (path / "memory.stat").write_text(stat)


def test_without_groups_it_is_what_the_machine_has(files: MemoryFiles) -> None:
    assert free_memory(files) == 8 * GIB


def test_a_limit_counts_less_what_is_used(files: MemoryFiles) -> None:
    files.membership.write_text("0::/app\n")
    v2_group(files.hierarchy / "app", 4 * GIB, 1 * GIB)

    assert free_memory(files) == 3 * GIB


def test_a_group_without_limit_leaves_what_the_machine_has(files: MemoryFiles) -> None:
    files.membership.write_text("0::/app\n")
    v2_group(files.hierarchy / "app", "max", 1 * GIB)

    assert free_memory(files) == 8 * GIB


def test_the_tightest_ancestor_counts(files: MemoryFiles) -> None:
    files.membership.write_text("0::/slice/pod/app\n")
    v2_group(files.hierarchy / "slice", 3 * GIB, 2 * GIB)
    v2_group(files.hierarchy / "slice" / "pod", "max", 2 * GIB)
    v2_group(files.hierarchy / "slice" / "pod" / "app", 4 * GIB, 0)

    assert free_memory(files) == 1 * GIB


def test_file_cache_is_free_except_where_it_is_mapped(files: MemoryFiles) -> None:
    files.membership.write_text("0::/app\n")
    stat = f"inactive_file {GIB}\nactive_file {GIB}\nslab_reclaimable {GIB // 2}\nfile_mapped {GIB // 4}\n"
    v2_group(files.hierarchy / "app", 4 * GIB, 3 * GIB, stat)

    assert free_memory(files) == 4 * GIB - 3 * GIB + 2 * GIB + GIB // 2 - GIB // 4


def test_a_container_that_sees_the_hosts_path_finds_its_own_limit_at_the_root(files: MemoryFiles) -> None:
    files.membership.write_text("0::/docker/0123456789\n")
    v2_group(files.hierarchy, 2 * GIB, 0)

    assert free_memory(files) == 2 * GIB


def test_version_1(files: MemoryFiles) -> None:
    files.membership.write_text("5:cpu,cpuacct:/app\n4:memory:/app\n1:name=systemd:/\n")
    stat = f"inactive_file 0\ntotal_inactive_file {GIB}\ntotal_active_file 0\ntotal_mapped_file 0\n"
    v1_group(files.hierarchy / "memory" / "app", 4 * GIB, 3 * GIB, stat)
    v1_group(files.hierarchy / "memory", 9223372036854771712, 20 * GIB)

    assert free_memory(files) == 2 * GIB


def test_both_versions_side_by_side(files: MemoryFiles) -> None:
    files.membership.write_text("4:memory:/app\n0::/app\n")
    v1_group(files.hierarchy / "memory" / "app", 5 * GIB, 0)
    v2_group(files.hierarchy / "unified" / "app", 6 * GIB, 0)

    assert free_memory(files) == 5 * GIB


def test_an_exceeded_limit_leaves_nothing(files: MemoryFiles) -> None:
    files.membership.write_text("0::/app\n")
    v2_group(files.hierarchy / "app", GIB, 2 * GIB)

    assert free_memory(files) == 0


def test_a_system_that_does_not_tell_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="kv_cache_tokens"):
        free_memory(MemoryFiles(tmp_path / "no-such-file"))


def test_this_machine() -> None:
    assert free_memory() > 0
