"""Counting cores: hardware threads once, quotas of either cgroup version respected."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from engine.ops import cpu_count


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hardware_threads_of_a_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        write(tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list", f"{siblings}\n")
    monkeypatch.setattr(cpu_count, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(cpu_count, "CGROUPS", tmp_path / "none")
    for allowed, cores in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({8, 9, 10}, 3)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, allowed=allowed: allowed)
        assert cpu_count.usable_cores() == cores


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, math.inf),
        ({"a/b": "max 100000"}, math.inf),
        ({"a/b": "250000 100000"}, 2.5),
        ({"a": "50000 100000", "a/b": "250000 100000"}, 0.5),
        ({"": "300000 100000", "a/b": "max 100000"}, 3.0),
    ],
)
def test_quota_of_version_2(quotas: dict[str, str], expected: float, tmp_path: Path) -> None:
    for group, text in quotas.items():
        write(tmp_path / "fs" / group / "cpu.max", f"{text}\n")
    write(tmp_path / "membership", "0::/a/b\n")
    assert cpu_count.cpu_quota(tmp_path / "fs", tmp_path / "membership") == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", math.inf), ("150000", 1.5)])
def test_quota_of_version_1(quota: str, expected: float, tmp_path: Path) -> None:
    write(tmp_path / "fs" / "cpu" / "a" / "cpu.cfs_quota_us", quota)
    write(tmp_path / "fs" / "cpu" / "a" / "cpu.cfs_period_us", "100000")
    write(tmp_path / "membership", "4:memory:/other\n3:cpu,cpuacct:/a\n0::/\n")
    assert cpu_count.cpu_quota(tmp_path / "fs", tmp_path / "membership") == expected


def test_inside_a_container_the_mounted_root_counts(tmp_path: Path) -> None:
    write(tmp_path / "fs" / "cpu.max", "200000 100000\n")
    write(tmp_path / "membership", "0::/system.slice/not-visible-here\n")
    assert cpu_count.cpu_quota(tmp_path / "fs", tmp_path / "membership") == 2.0


def test_there_is_always_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_count.cpu_quota(tmp_path, tmp_path / "missing") == math.inf
    monkeypatch.setattr(cpu_count, "cpu_quota", lambda *_: 0.2)
    assert cpu_count.usable_cores() == 1
