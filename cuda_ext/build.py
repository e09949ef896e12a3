"""Builds libquire_cuda.so with nvcc: `python -m cuda_ext.build`, which `make cuda` calls.

Every source is compiled by itself for all wanted architectures, as many at a time as there are CPUs; objects are kept
in build/cuda, in folders like the sources', and made anew only when a source, a header, nvcc or the flags have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
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

PACKAGED = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin"
"""Where PyPI's packages put nvcc and what goes with it."""

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
    """Path of nvcc: in the environment variable CUDA_HOME, on the path, where the toolkit puts it, or from PyPI."""
    places = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"),) if home]
    usual = [Path("/usr/local/cuda/bin"), PACKAGED]
    return shutil.which("nvcc", path=os.pathsep.join(map(str, [*places, os.environ.get("PATH", os.defpath), *usual])))


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


def build(
    architectures: Sequence[str], output: Path = LIBRARY_PATH, jobs: int | None = None, objects: Path = OBJECTS
) -> list[Path]:
    """Compile and link the library. Returns its objects.

    Args:
        architectures: such as `90a`.
        output: the library's file.
        jobs: compilations at a time; None for one per CPU.
        objects: folder they are kept in; one of another build is for other architectures.

    Raises:
        NativeLibraryError: there is no nvcc, or it fails; the message holds what it said.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise NativeLibraryError(
            "nvcc is not found. Install the CUDA toolkit, 12.8 or newer, and set CUDA_HOME if it is in an unusual "
            "place; or let pip bring it: pip install -r requirements/cuda.txt."
        )
    flags = [*FLAGS, *code_flags(architectures)]
    sources = sorted(SOURCES.rglob("*.cu"))
    common = _digest([_run([nvcc, "--version"]), *flags], sorted([*SOURCES.rglob("*.cuh"), *SOURCES.rglob("*.h")]))
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        built = list(pool.map(lambda source: _compile(nvcc, flags, source, common, objects), sources))
    _forget_all_but(built, objects)
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_suffix(".new")
    packaged = f"-L{Path(nvcc).parents[1] / 'lib'}"  # nvcc itself looks into lib64, which its packages lack
    linked = ["-shared", "-cudart", "static", packaged, *code_flags(architectures)]
    _run([nvcc, *linked, *map(str, built), "-o", str(fresh)])
    fresh.replace(output)  # a process that has the old one open keeps it
    return built


def account_of(built: Path) -> Path:
    """Where stands what ptxas said of an object's kernels."""
    return built.with_suffix(".ptxas")


def _compile(nvcc: str, flags: Sequence[str], source: Path, common: str, objects: Path) -> Path:
    key = _digest([common], [source])
    # under the source's own folder: files of the same name may stand in several
    built = objects / source.relative_to(SOURCES).with_name(f"{source.stem}-{key[:16]}.o")
    if not built.is_file():
        print(f"nvcc {source.relative_to(SOURCES)}", flush=True)
        built.parent.mkdir(parents=True, exist_ok=True)
        unfinished = built.with_suffix(".tmp.o")
        said = _run([nvcc, "-c", *flags, str(source), "-o", str(unfinished)])
        account_of(built).write_text(said, encoding="utf-8")
        unfinished.replace(built)
    return built


def _forget_all_but(built: Sequence[Path], objects: Path) -> None:
    """Remove what earlier builds left, of sources that have changed or are no longer there."""
    kept = {*built, *map(account_of, built)}
    for path in [*objects.rglob("*.o"), *objects.rglob("*.ptxas")]:
        if path not in kept:
            path.unlink()


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
