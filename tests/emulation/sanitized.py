"""Runs emulated CUDA kernels in a process that AddressSanitizer watches: it ends when they leave their tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "detect_leaks": 0,  # Python's, and they are many
    "detect_stack_use_after_return": 0,  # threads of a block jump from stack to stack
    "allocator_may_return_null": 1,
}


def find_sanitizer(compiler: str) -> tuple[Path, ...]:
    """What must be loaded before Python, in this order; nothing where the compiler's sanitizer is not of that kind.

    C++'s own library is a part of it: the sanitizer looks for what throws exceptions when it starts, and torch, which
    would bring the library, comes later.
    """
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        answer = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        found.append(Path(answer.stdout.strip()))
    return tuple(found) if all(each.is_absolute() for each in found) else ()


def run_sanitized(libraries: Sequence[Path], arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments. Both of its outputs are one.

    Args:
        libraries: as `find_sanitizer` gives them.
        arguments: of Python.
    """
    options = ":".join(f"{name}={value}" for name, value in OPTIONS.items())
    environment = {"LD_PRELOAD": ":".join(map(str, libraries)), "ASAN_OPTIONS": options, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
