"""Reading what ptxas says of kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuda_ext import report
from cuda_ext.report import KernelResources, list_resources, read_resources
from engine.errors import NativeLibraryError

SAID = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'void quire::attend<quire::Split<__half, 64, 1> >(quire::Call)' for 'sm_90a'
ptxas info    : Function properties for void quire::attend<quire::Split<__half, 64, 1> >(quire::Call)
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 1 barriers, 5392 bytes smem
ptxas info    : Compiling entry function 'void quire::(anonymous namespace)::add<float>(float*)' for 'sm_75'
    32 bytes stack frame, 28 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 12 registers, 368 bytes cmem[0]
"""


def test_reads_registers_shared_memory_and_spills() -> None:
    assert list(read_resources(SAID)) == [
        KernelResources("sm_90a", "attend<Split<__half, 64, 1> >", 56, 5392, 0),
        KernelResources("sm_75", "add<float>", 12, 0, 32),
    ]


def test_a_spill_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = list(read_resources(SAID.replace("sm_75", "sm_80")))
    monkeypatch.setattr(report, "list_resources", lambda: kernels)
    assert report.main([]) == 0
    assert report.main(["--check"]) == 1
    assert "LOCAL 32" in capsys.readouterr().out
    monkeypatch.setattr(report, "list_resources", lambda: list(read_resources(SAID)))  # there it is expected
    assert report.main(["--check"]) == 0


def test_nothing_built_says_so(tmp_path: Path) -> None:
    with pytest.raises(NativeLibraryError, match="make cuda"):
        list_resources(tmp_path)
