"""Checks of the native CPU library that need not load it."""

from __future__ import annotations

from pathlib import Path

from cpu_ext.loader import COMPILERS, LIBRARY_PATH, find_compiler
from quire.doctor.finding import Finding, ok, warning


def check_compiler(library: Path = LIBRARY_PATH) -> Finding:
    """Whether the native library could be built here; no matter where it is built already."""
    compiler = find_compiler()
    if compiler is not None:
        return ok("compiler", compiler)
    if library.is_file():
        return ok("compiler", "none, and none is needed: the native library is built")
    return warning(
        "compiler",
        f"none of {', '.join(COMPILERS)} is installed, so the native CPU library cannot be built",
        "Install one (on Debian: apt install g++), then install Quire again: make install.",
    )
