"""The run on a GPU, as far as it goes without one: its checks on the emulated device, its stages, its table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import sampling
from benchmarks.gpu.exl2_speed import GROUP_ROWS, MIX, random_matrix
from benchmarks.gpu.fragments import check_fragments
from benchmarks.gpu.sweep import cases, check
from engine.ops.cuda_backend import CudaBackend
from tests.emulation.device import EmulatedRuntime


def test_fragment_maps_pass_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = check_fragments(emulated.library.functions, lambda tensor: tensor)
    assert len(rows) == 5
    assert all(row.met for row in rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_sweep_passes_on_the_emulated_device(emulated: EmulatedRuntime, dtype: torch.dtype) -> None:
    backend = CudaBackend(emulated, dtype)
    rows = [row for case in cases(small=True) for row in check(case, backend)]
    assert all(row.met for row in rows), [str(row) for row in rows if not row.met]


def test_sampling_passes_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = sampling.check(emulated, sampling.SMALL, 2 * len(sampling.KINDS))
    assert [row.value for row in rows] == [0, 0]


def test_a_stage_that_fails_hangs_or_is_missing_is_an_outcome(tmp_path: Path) -> None:
    def run(*command: str, seconds: float = 60.0) -> gpu.Outcome:
        return gpu.run_stage(gpu.Stage("one", command, seconds), tmp_path)

    assert run(sys.executable, "-c", "print('well')").passed
    failed = run(sys.executable, "-c", "raise SystemExit('not well')")
    assert (failed.passed, "not well" in failed.said) == (False, True)
    late = run(sys.executable, "-c", "import time; time.sleep(600)", seconds=0.5)
    assert (late.passed, "not done after" in late.said) == (False, True)
    assert not run("/no/such/program").passed


def test_the_table_names_stages_and_rows() -> None:
    rows: list[dict[str, object]] = [{"name": "copy", "value": 0.5, "unit": "GB/s", "target": 0.75}]
    text = gpu.table("H200", [gpu.Outcome("build", True, 1.0, "", rows), gpu.Outcome("speed", False, 2.0, "", [])])
    assert "| build | passed | 1.0 |" in text
    assert "| speed | FAILED | 2.0 |" in text
    assert "| copy | 0.5 | GB/s | 0.75 |" in text


def test_without_a_card_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "device_name", lambda: "")
    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert "nothing to measure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_measured_matrices_have_the_widths_they_are_named_by() -> None:
    mixed = random_matrix((2560, 64), MIX)
    assert [group.width for group in mixed.groups] == [5] * 2 + [4] * 18
    assert mixed.in_features == 2560
    plain = random_matrix((2 * GROUP_ROWS, 32), ((3, 1.0),))
    assert [group.width for group in plain.groups] == [3, 3]
