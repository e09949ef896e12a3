"""Compiles the CUDA kernels' own source as C++ over the emulated device, into a library with the same C interface."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpu_ext.loader import find_compiler
from cuda_ext.build import SOURCES

HERE = Path(__file__).resolve().parent
REPLACED = ("device.cu",)  # asks the CUDA runtime; HERE / "device.cpp" stands in for it
FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-U_FORTIFY_SOURCE",  # fibers leave stacks by longjmp, which its checks take for a fault
    "-Wall",
    "-Wno-unused-function",
    "-Wno-unknown-pragmas",
    "-DQUIRE_EMULATE",
    f"-I{HERE / 'include'}",
    f"-I{HERE}",
    f"-I{SOURCES}",
)

SANITIZED = ("-fsanitize=address", "--param=asan-stack=0", "-g1")  # threads' stacks are fibers', which it cannot tell


def kernel_sources() -> list[Path]:
    """The kernels' files, all but those that ask the CUDA runtime."""
    return [path for path in sorted(SOURCES.rglob("*.cu")) if path.name not in REPLACED]


def build_emulated(folder: Path, extra: Sequence[Path] = (), *, sanitize: bool = False) -> Path:
    """The library's path in `folder`; what is there already for the same source is used again.

    Args:
        folder: where objects and libraries are kept.
        extra: further sources, of kernels that only tests use.
        sanitize: with AddressSanitizer, which ends the process when a kernel leaves the tensors it was given; its own
            library must have been loaded before Python (LD_PRELOAD).
    """
    compiler = find_compiler()
    if compiler is None:
        raise LookupError("no C++ compiler")
    headers = sorted([*SOURCES.rglob("*.cuh"), *SOURCES.rglob("*.h"), *HERE.rglob("*.h")])
    flags = [*FLAGS, *(SANITIZED if sanitize else ())]
    common = _digest([compiler, *flags], headers)
    sources = [*kernel_sources(), *sorted(HERE.glob("*.cpp")), *extra]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: _compile([compiler, *flags], source, common, folder), sources))
    library = folder / f"libquire_emulated-{_digest([str(each) for each in objects], [])[:16]}.so"
    if not library.is_file():
        unfinished = library.with_suffix(f".{os.getpid()}")
        linked = ["-shared", *(SANITIZED if sanitize else ()), *map(str, objects)]
        subprocess.run([compiler, *linked, "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    return library


def _compile(compiler: Sequence[str], source: Path, common: str, folder: Path) -> Path:
    result = folder / f"{source.stem}-{_digest([common, str(source)], [source])[:16]}.o"
    if not result.is_file():
        unfinished = result.with_suffix(f".{os.getpid()}.o")
        subprocess.run([*compiler, "-x", "c++", "-c", str(source), "-o", str(unfinished)], check=True)
        unfinished.replace(result)
    return result


def _digest(words: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for file in files:
        digest.update(b"\0" + file.read_bytes())
    return digest.hexdigest()
