"""Opening the CUDA library, and how it is built, as far as that can be tried without a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cuda_ext import build, loader
from cuda_ext.build import ARCHITECTURES, SOURCES, code_flags, find_nvcc, wanted_architectures
from cuda_ext.loader import ABI_VERSION, load_library
from engine.errors import ConfigError, DeviceError, KernelArgumentError, NativeLibraryError
from tests.emulation.device import EmulatedRuntime


def test_every_exported_function_is_declared_with_all_its_arguments() -> None:
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "quire_cuda.h").read_text(), flags=re.DOTALL)
    declared = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in re.findall(r"QUIRE_CUDA_API[^;(]*?(quire_cuda_\w+)\(([^)]*)\)", text)
    }
    assert declared.pop("quire_cuda_abi_version") == 0
    assert {name: len(arguments) for name, (_, arguments) in loader._SIGNATURES.items()} == declared
    assert f"#define QUIRE_CUDA_ABI_VERSION {ABI_VERSION}\n" in text


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(NativeLibraryError, match=r"not built.*make cuda"):
        load_library(tmp_path / "libquire_cuda.so")


def test_library_of_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "libquire_cuda.so"
    path.write_bytes(b"\x7fELF, but not for this machine")
    with pytest.raises(NativeLibraryError, match="does not load on this machine"):
        load_library(path)


def test_a_status_becomes_an_error(emulated: EmulatedRuntime) -> None:
    library = emulated.library
    library.check(0)
    with pytest.raises(KernelArgumentError, match="no CUDA kernel"):
        library.check(library.functions.quire_cuda_add(0, 0, 0, 0, 9))
    with pytest.raises(DeviceError, match=r"CUDA error: unknown \(1\)"):
        library.check(1)


def test_architectures_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "card_architectures", lambda: ())
    assert wanted_architectures("") == wanted_architectures("all") == ARCHITECTURES
    assert wanted_architectures("80, 90a") == ("80", "90a")
    with pytest.raises(ConfigError, match="'81' is none of 75, 80"):
        wanted_architectures("80,81")
    with pytest.raises(ConfigError, match="lists no card"):
        wanted_architectures("native")
    monkeypatch.setattr(build, "card_architectures", lambda: ("90a",))
    assert wanted_architectures("") == wanted_architectures("native") == ("90a",)


def test_only_a_library_for_all_cards_holds_ptx_for_later_ones() -> None:
    assert code_flags(["90a"]) == ["-gencode=arch=compute_90a,code=sm_90a"]
    assert code_flags(ARCHITECTURES)[-1] == "-gencode=arch=compute_120,code=compute_120"


def test_a_build_without_nvcc_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "find_nvcc", lambda: None)
    with pytest.raises(NativeLibraryError, match="nvcc is not found"):
        build.build(["90a"], tmp_path / "lib.so")


@pytest.mark.slow
def test_compiles_with_nvcc_and_opens(tmp_path: Path) -> None:
    if find_nvcc() is None:
        pytest.skip("needs nvcc")
    build.build(["90a"], tmp_path / "libquire_cuda.so")
    library = load_library(tmp_path / "libquire_cuda.so")
    assert library.built_for is not None
