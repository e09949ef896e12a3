"""Backends of every instruction set this machine has."""

from __future__ import annotations

from typing import Protocol

import pytest

from cpu_ext.loader import Isa, Library, find_compiler, load_library
from engine.errors import NativeLibraryError
from engine.ops.cpu_backend import CpuBackend


class Backends(Protocol):
    """Gives the backend of an instruction set and thread count."""

    def __call__(self, isa: Isa, threads: int = 1) -> CpuBackend: ...


@pytest.fixture(scope="session")
def library() -> Library:
    """The compiled kernels; missing is an excuse only where they cannot be compiled."""
    try:
        return load_library()
    except NativeLibraryError:
        if find_compiler() is None:
            pytest.skip("the native CPU library is not built and there is no C++ compiler to build it")
        raise


@pytest.fixture(scope="session")
def backends(library: Library) -> Backends:
    """Makes each backend once; skips the test where the CPU lacks the instruction set."""
    made: dict[tuple[Isa, int], CpuBackend] = {}

    def backend(isa: Isa, threads: int = 1) -> CpuBackend:
        if not library.supports(isa):
            pytest.skip(f"this CPU has no {isa.name}")
        if (isa, threads) not in made:
            made[isa, threads] = CpuBackend(threads, isa)
        return made[isa, threads]

    return backend
