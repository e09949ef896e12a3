"""What each built kernel takes on a device: `python -m cuda_ext.report`, which `make cuda-report` calls.

Reads what ptxas said when it was built. With `--check` a kernel that uses local memory (registers that did not suffice,
or an array that is not kept in them) is an error.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuda_ext.build import OBJECTS
from engine.errors import NativeLibraryError

NOT_TUNED = ("sm_75",)
"""Architectures for which kernels are right, but not made for speed: there a spill is no error."""


@dataclass(frozen=True, slots=True)
class KernelResources:
    """One kernel on one architecture.

    Attributes:
        architecture: such as `sm_90a`.
        name: of the kernel, with its template arguments.
        registers: per thread.
        shared: bytes per block known when it was compiled.
        local: bytes per thread of memory in place of registers: spills, and arrays that are not kept in registers.
    """

    architecture: str
    name: str
    registers: int
    shared: int
    local: int

    def __str__(self) -> str:
        spilled = f"  LOCAL {self.local}" if self.local else ""
        return f"{self.architecture:8s} {self.registers:4d} registers {self.shared:6d} B shared  {self.name}{spilled}"


def read_resources(said: str) -> Iterator[KernelResources]:
    """The kernels in what `ptxas -v` says."""
    architecture, name, local = "", "", 0
    for line in said.splitlines():
        if found := re.search(r"Compiling entry function '(.+)' for '(.+)'", line):
            name, architecture = found[1], found[2]
        elif found := re.search(r"(\d+) bytes stack frame", line):
            local = int(found[1])
        elif found := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            yield KernelResources(architecture, _short(name), int(found[1]), int(shared[1]) if shared else 0, local)


def list_resources(folder: Path = OBJECTS) -> list[KernelResources]:
    """Every kernel of the latest build, by architecture and name.

    Raises:
        NativeLibraryError: nothing has been built here.
    """
    files = sorted(folder.rglob("*.ptxas"))
    if not files:
        raise NativeLibraryError(f"{folder} holds no account of a build; run `make cuda`.")
    said = "".join(file.read_text(encoding="utf-8") for file in files)
    demangle = shutil.which("c++filt")
    if demangle:
        said = subprocess.run([demangle], input=said, capture_output=True, text=True, check=True).stdout
    return sorted(read_resources(said), key=lambda each: (each.architecture, each.name))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if nothing is built, or `--check` finds local memory in use."""
    parser = argparse.ArgumentParser(prog="python -m cuda_ext.report", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a kernel uses local memory")
    options = parser.parse_args(arguments)
    try:
        kernels = list_resources()
    except NativeLibraryError as error:
        print(error, file=sys.stderr)
        return 1
    for kernel in kernels:
        print(kernel)
    spilling = [kernel for kernel in kernels if kernel.local]
    print(f"{len(kernels)} kernels, {len(spilling)} with local memory")
    return 1 if options.check and any(kernel.architecture not in NOT_TUNED for kernel in spilling) else 0


def _short(name: str) -> str:
    """Without return type, namespaces and parameters."""
    bare = re.sub(r"\(anonymous namespace\)::|<unnamed>::|quire::|_INTERNAL_\w+::", "", name)
    return re.sub(r"\((?!int\)|bool\)).*$", "", bare.removeprefix("void "))


if __name__ == "__main__":
    sys.exit(main())
