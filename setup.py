"""The part of packaging that TOML cannot say: building the native CPU library and tagging the wheel for its platform.

Everything else stands in pyproject.toml. Without a C++ compiler the package installs all the same, without the
library; Quire then computes with plain torch, slowly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "cpu_ext"
BUILD = ROOT / "build" / "cpu_ext"
LIBRARY = SOURCE / "lib" / "libquire_cpu.so"
COMPILERS = ("c++", "g++", "clang++")


def find_tool(*names: str) -> str | None:
    """The first of these programs, next to this Python (where pip puts cmake and ninja) or on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def find_missing() -> str | None:
    """What is missing for a build, in words, or None."""
    named = os.environ.get("CXX", "").split()
    if find_tool(*(named[:1] or COMPILERS)) is None:
        return f"no C++ compiler ({' '.join(named) or ', '.join(COMPILERS)})"
    return None if find_tool("cmake") else "no cmake"


def build_library() -> None:
    """Configure and compile `cpu_ext`; quick when nothing has changed.

    Raises:
        subprocess.CalledProcessError: there is a compiler and it fails; its output has been shown.
    """
    missing = find_missing()
    if missing is not None:
        LIBRARY.unlink(missing_ok=True)  # of an earlier build: of other sources, or for another machine
        print(f"quire: {missing} found: installing without the native CPU kernels (slow).", file=sys.stderr)
        return
    cmake, ninja = str(find_tool("cmake")), find_tool("ninja")
    # The tools of an isolated build live in a folder that is gone the next time: name ninja on every run.
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    configure = [cmake, "-S", str(SOURCE), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release", *generator]
    run_quietly(configure)
    run_quietly([cmake, "--build", str(BUILD), "--parallel"])


def run_quietly(command: list[str]) -> None:
    """Run a command; show what it said only if it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        print(result.stdout, file=sys.stderr)
        result.check_returncode()


class BuildWithLibrary(build_py):
    """Compiles the library before the package's files are collected, in editable installs too."""

    def run(self) -> None:
        build_library()
        super().run()


class NativeDistribution(Distribution):
    """Declares the package as one for this platform, unless there is no library to go into it."""

    def has_ext_modules(self) -> bool:
        return find_missing() is None


class PlatformWheel(bdist_wheel):
    """Tags the wheel for any Python 3: the library links neither Python nor torch."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


setup(distclass=NativeDistribution, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
