"""Kernels stay within the tensors they are given: their tests run once more with AddressSanitizer watching memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpu_ext.loader import find_compiler
from tests.conftest import EMULATION, EMULATION_BUILD
from tests.emulation.build import build_emulated
from tests.emulation.sanitized import find_sanitizer, run_sanitized

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FAULT = """
import sys
from ctypes import CDLL, c_int32, c_void_p
import torch

probe = CDLL(sys.argv[1]).probe_bad
probe.argtypes = (c_int32, c_void_p)
probe(int(sys.argv[2]), torch.zeros(64, dtype=torch.int32).data_ptr())
"""


@pytest.fixture(scope="module")
def sanitizer() -> tuple[Path, ...]:
    """The sanitizer's libraries."""
    compiler = find_compiler()
    found = () if compiler is None else find_sanitizer(compiler)
    if not found:
        pytest.skip("needs a C++ compiler whose AddressSanitizer can be loaded first")
    return found


@pytest.mark.parametrize(("which", "access"), [(10, "READ"), (11, "WRITE")])
def test_leaving_a_tensor_shows(sanitizer: tuple[Path, ...], which: int, access: str) -> None:
    EMULATION_BUILD.mkdir(parents=True, exist_ok=True)
    library = build_emulated(EMULATION_BUILD, [EMULATION / "probes.cu"], sanitize=True)
    result = run_sanitized(sanitizer, ["-c", FAULT, str(library), str(which)])
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stdout, result.stdout
    assert f"{access} of size 4" in result.stdout
    assert "bad_address" in result.stdout


def test_kernels_stay_within_their_tensors(sanitizer: tuple[Path, ...]) -> None:
    # output is not captured: what the sanitizer says as it ends the process would be lost
    options = ["--sanitize", "--capture=no", "-p", "no:cacheprovider", "--timeout=3000"]
    result = run_sanitized(sanitizer, ["-m", "pytest", *options, "tests/kernels/cuda"])
    fault = result.stdout.find("ERROR: AddressSanitizer")
    assert result.returncode == 0, result.stdout[fault : fault + 4000] if fault >= 0 else result.stdout[-4000:]
