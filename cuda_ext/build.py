"""Builds libquire_cuda.so with nvcc: `python -m cuda_ext.build`, which `make cuda` calls.

Every source is compiled by itself for all wanted architectures, as many at a time as there are CPUs; objects are kept
in build/cuda and made anew only when a source, a header, nvcc or the flags have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_ext.loader import LIBRARY_PATH
from engine.errors import ConfigError, NativeLibraryError

SOURCES = Path(__file__).resolve().parent / "csrc"
OBJECTS = SOURCES.parents[1] / "build" / "cuda"
"""Objects, and beside each what ptxas said of its kernels (`cuda_ext/report.py`)."""

ARCHITECTURES = ("75", "80", "86", "89", "90a", "100", "120")
"""Turing, Ampere (two), Ada, Hopper, Blackwell (two). A library for all also holds PTX of the last, for later cards."""

ARCHS_VARIABLE = "QUIRE_CUDA_ARCHS"
FLAGS = (
    "-std=c++17",
    "-O3",
    "-lineinfo",
    "-Xptxas",
    "-v",
    "-Xcompiler",
    "-fPIC,-fvisibility=hidden,-Wall",
    f"-I{SOURCES}",
)


def find_nvcc() -> str | None:
    """Path of nvcc: of the environment variable CUDA_HOME, on the path, or where the toolkit installs itself."""
    places = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"),) if home]
    search = os.pathsep.join(map(str, [*places, os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]))
    return shutil.which("nvcc", path=search)


def card_architectures() -> tuple[str, ...]:
    """Architectures of the cards in this machine, as nvidia-smi tells them; none where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    found = {line.strip().replace(".", "") for line in answer.stdout.splitlines() if "." in line}
    return tuple(sorted(("90a" if each == "90" else each for each in found), key=_generation))


def wanted_architectures(setting: str) -> tuple[str, ...]:
    """Architectures to build for.

    Args:
        setting: `all`, `native` (the cards in this machine), a list such as `80,90a`, or empty: native, or all where
            there is no card.

    Raises:
        ConfigError: the list names one that is not known, or `native` finds no card.
    """
    if setting in ("", "native"):
        native = card_architectures()
        if native or setting:
            if not native:
                raise ConfigError(f"{ARCHS_VARIABLE} is 'native', but nvidia-smi lists no card; name architectures.")
            return native
        return ARCHITECTURES
    if setting == "all":
        return ARCHITECTURES
    named = tuple(each.strip() for each in setting.split(","))
    unknown = [each for each in named if each not in ARCHITECTURES]
    if unknown:
        raise ConfigError(
            f"{ARCHS_VARIABLE}: '{unknown[0]}' is none of {', '.join(ARCHITECTURES)}, and neither 'all' nor 'native'."
        )
    return named


def code_flags(architectures: Sequence[str]) -> list[str]:
    """nvcc's options for machine code of each architecture, and for PTX of the newest if all are built."""
    flags = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in architectures]
    if set(architectures) >= set(ARCHITECTURES):
        newest = ARCHITECTURES[-1]
        flags.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
    return flags


def build(architectures: Sequence[str], output: Path = LIBRARY_PATH, jobs: int | None = None) -> None:
    """Compile and link the library.

    Args:
        architectures: such as `90a`.
        output: the library's file.
        jobs: compilations at a time; None for one per CPU.

    Raises:
        NativeLibraryError: there is no nvcc, or it fails; the message holds what it said.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise NativeLibraryError("nvcc is not found. Install the CUDA toolkit, 12.8 or newer, or set CUDA_HOME.")
    flags = [*FLAGS, *code_flags(architectures)]
    OBJECTS.mkdir(parents=True, exist_ok=True)
    sources = sorted(SOURCES.rglob("*.cu"))
    common = _digest([_run([nvcc, "--version"]), *flags], sorted([*SOURCES.rglob("*.cuh"), *SOURCES.rglob("*.h")]))
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: _compile(nvcc, flags, source, common), sources))
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_suffix(".new")
    _run([nvcc, "-shared", "-cudart", "static", *code_flags(architectures), *map(str, objects), "-o", str(fresh)])
    fresh.replace(output)  # a process that has the old one open keeps it


def _compile(nvcc: str, flags: Sequence[str], source: Path, common: str) -> Path:
    key = _digest([common], [source])
    result = OBJECTS / f"{source.stem}-{key[:16]}.o"
    if not result.is_file():
        print(f"nvcc {source.relative_to(SOURCES)}", flush=True)
        for stale in OBJECTS.glob(f"{source.stem}-*.o"):
            stale.unlink()
        unfinished = result.with_suffix(".tmp.o")
        said = _run([nvcc, "-c", *flags, str(source), "-o", str(unfinished)])
        (OBJECTS / f"{source.stem}.ptxas").write_text(said, encoding="utf-8")
        unfinished.replace(result)
    return result


def _digest(words: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for file in files:
        digest.update(str(file.relative_to(SOURCES)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise NativeLibraryError(f"{' '.join(command)} failed:\n{result.stdout}")
    return result.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 with a reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m cuda_ext.build", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--archs",
        default=os.environ.get(ARCHS_VARIABLE, ""),
        help=f"all, native, or a list of {','.join(ARCHITECTURES)} "
        f"(default: ${ARCHS_VARIABLE}, else the cards here, else all)",
    )
    parser.add_argument("--output", type=Path, default=LIBRARY_PATH, help="the library's file")
    parser.add_argument("--jobs", type=int, default=None, help="compilations at a time (default: one per CPU)")
    options = parser.parse_args(arguments)
    try:
        architectures = wanted_architectures(options.archs)
        build(architectures, options.output, options.jobs)
    except (ConfigError, NativeLibraryError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.output}: sm_{', sm_'.join(architectures)}")
    return 0


def _generation(architecture: str) -> int:
    return int(architecture.rstrip("a"))


if __name__ == "__main__":
    sys.exit(main())
