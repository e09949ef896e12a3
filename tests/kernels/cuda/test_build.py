"""The build: what it compiles, keeps and forgets, with a compiler that only writes down what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuda_ext import build as cuda_build
from cuda_ext.build import build, wanted_architectures
from cuda_ext.report import list_resources
from engine.errors import ConfigError, NativeLibraryError

COMPILER = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "nvcc 1"; exit 0; fi
echo "$@" >> {log}
for last; do :; done
for argument in "$@"; do case "$argument" in *.cu) source="$argument";; *.o) objects="$objects $argument";; esac; done
if [ -n "$source" ]; then
    cat "$source" > "$last"
    echo "ptxas info    : Compiling entry function 'kernel_of_$(cat "$source")' for 'sm_90a'"
    echo "ptxas info    : Used 8 registers"
    grep -q broken "$source" && exit 1
else
    cat ${{objects}} > "$last"
fi
exit 0
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sources that the build takes for its own, and a compiler that joins them together."""
    folder = tmp_path / "csrc"
    for name in ("attention", "norm"):
        (folder / name).mkdir(parents=True)
        (folder / name / "kernels.cu").write_text(name)
    (folder / "common.h").write_text("")
    compiler = tmp_path / "nvcc"
    compiler.write_text(COMPILER.format(log=tmp_path / "log"))
    compiler.chmod(0o755)
    monkeypatch.setattr(cuda_build, "SOURCES", folder)
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: str(compiler))
    return folder


def compiled(tmp_path: Path) -> list[str]:
    """Compiles the sources; names of those that were compiled anew."""
    log = tmp_path / "log"
    log.write_text("")
    build(["90a"], tmp_path / "library.so", jobs=1, objects=tmp_path / "objects")
    lines = [line.split() for line in log.read_text().splitlines()]
    return [Path(word).parent.name for line in lines for word in line if word.endswith(".cu")]


def test_sources_of_one_name_are_kept_apart(sources: Path, tmp_path: Path) -> None:
    assert compiled(tmp_path) == ["attention", "norm"]
    assert (tmp_path / "library.so").read_text() == "attentionnorm"
    kernels = [kernel.name for kernel in list_resources(tmp_path / "objects")]
    assert kernels == ["kernel_of_attention", "kernel_of_norm"]


def test_only_what_has_changed_is_compiled_again(sources: Path, tmp_path: Path) -> None:
    compiled(tmp_path)
    assert compiled(tmp_path) == []
    (sources / "norm" / "kernels.cu").write_text("other")
    assert compiled(tmp_path) == ["norm"]
    assert (tmp_path / "library.so").read_text() == "attentionother"
    (sources / "common.h").write_text("#define X")
    assert compiled(tmp_path) == ["attention", "norm"]


def test_what_is_no_longer_there_is_forgotten(sources: Path, tmp_path: Path) -> None:
    compiled(tmp_path)
    (sources / "norm" / "kernels.cu").unlink()
    compiled(tmp_path)
    assert (tmp_path / "library.so").read_text() == "attention"
    assert [kernel.name for kernel in list_resources(tmp_path / "objects")] == ["kernel_of_attention"]


def test_a_failure_shows_what_the_compiler_said_and_leaves_the_library(sources: Path, tmp_path: Path) -> None:
    compiled(tmp_path)
    (sources / "norm" / "kernels.cu").write_text("broken")
    with pytest.raises(NativeLibraryError, match="kernel_of_broken"):
        compiled(tmp_path)
    assert (tmp_path / "library.so").read_text() == "attentionnorm"


def test_without_nvcc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda_build, "find_nvcc", lambda: None)
    with pytest.raises(NativeLibraryError, match="CUDA toolkit"):
        build(["90a"], tmp_path / "library.so", objects=tmp_path)


def test_architectures() -> None:
    assert wanted_architectures("80, 90a") == ("80", "90a")
    assert wanted_architectures("all") == cuda_build.ARCHITECTURES
    with pytest.raises(ConfigError, match="'81' is none of"):
        wanted_architectures("81")
