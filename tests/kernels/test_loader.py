"""Opening the native library: what goes wrong is said, with what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cpu_ext import loader
from cpu_ext.loader import ABI_VERSION, Isa, Library, find_compiler, load_library
from engine.errors import NativeLibraryError

HEADER = Path(loader.__file__).parent / "csrc" / "quire_cpu.h"


def compile_library(source: str, folder: Path) -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    path = folder / "libother.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(path)], input=source.encode(), check=True)
    return path


def test_opens(library: Library) -> None:
    assert library.path.is_file()
    assert library.supports(Isa.PORTABLE)


def test_every_exported_function_is_declared_with_all_its_arguments(library: Library) -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    declared = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in re.findall(r"QUIRE_API[^;(]*?(quire_\w+)\(([^)]*)\)", text)
    }
    assert declared.pop("quire_abi_version") == 0
    assert {name: len(arguments) for name, (_, arguments) in loader._SIGNATURES.items()} == declared
    assert f"#define QUIRE_CPU_ABI_VERSION {ABI_VERSION}\n" in text


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(NativeLibraryError, match=r"not built.*make install"):
        load_library(tmp_path / "libquire_cpu.so")


def test_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NativeLibraryError, match=r"No C\+\+ compiler was found \(c\+\+, g\+\+, clang\+\+\)"):
        load_library(tmp_path / "libquire_cpu.so")


def test_library_of_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "libquire_cpu.so"
    path.write_bytes(b"\x7fELF, but not for this machine")
    with pytest.raises(NativeLibraryError, match="does not load on this machine"):
        load_library(path)


def test_other_interface_version(tmp_path: Path) -> None:
    path = compile_library('extern "C" int quire_abi_version() { return 999; }', tmp_path)
    with pytest.raises(NativeLibraryError, match=f"version 999.*needs {ABI_VERSION}"):
        load_library(path)


def test_other_library(tmp_path: Path) -> None:
    path = compile_library('extern "C" int something() { return 0; }', tmp_path)
    with pytest.raises(NativeLibraryError, match="not Quire's native CPU library"):
        load_library(path)
