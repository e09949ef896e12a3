"""Check of what the native CPU library is built with."""

from __future__ import annotations

from engine.ops.native_library import BuildTools, build_tools
from quire.doctor.finding import Finding, ok, warning


def check_compiler(tools: BuildTools | None = None) -> Finding:
    """Whether the native library could be built here; no matter where it is built already."""
    tools = tools or build_tools()
    if tools.compiler is not None:
        return ok("compiler", tools.compiler)
    if tools.built:
        return ok("compiler", "none, and none is needed: the native library is built")
    return warning(
        "compiler",
        f"none of {', '.join(tools.known_compilers)} is installed, so the native CPU library cannot be built",
        "Install one (on Debian: apt install g++), then install Quire again: make install.",
    )
