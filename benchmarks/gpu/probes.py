"""Builds the probes of single instructions (tests/emulation/probes.cu) for the cards in this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cuda_ext.build import SOURCES, card_architectures, code_flags, find_nvcc
from engine.errors import NativeLibraryError

PROBES = Path(__file__).resolve().parents[2] / "tests" / "emulation" / "probes.cu"


def build_probes(folder: Path) -> Path:
    """Compile the probes for the cards in this machine.

    Raises:
        NativeLibraryError: there is no nvcc.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise NativeLibraryError("nvcc is not found.")
    library = folder / "libprobes.so"
    flags = ["-std=c++17", "-O2", "-shared", "-Xcompiler", "-fPIC", f"-I{SOURCES}", *code_flags(card_architectures())]
    subprocess.run([nvcc, *flags, str(PROBES), "-o", str(library)], check=True)
    return library
