"""What the distributions hold, built where there is no compiler but the library of an earlier build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from quire.import_names import NAMES

ROOT = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
PACKAGES = (*NAMES, "quire")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    (source / "cpu_ext" / "lib").mkdir()
    (source / "cpu_ext" / "lib" / "libquire_cpu.so").write_text("of an earlier build")
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "sdist"]
    subprocess.run(command, cwd=source, env={**os.environ, "CXX": "no-such-compiler"}, check=True)
    return source / "dist"


def test_the_wheel_holds_what_runs_and_nothing_else(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    names = [name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == set(PACKAGES)
    assert "demo/quire-demo/output.safetensors" in names
    assert [name for name in names if not name.endswith(".py") and not name.startswith("demo/quire-demo/")] == [
        "demo/eval.jsonl"
    ]
    assert not [name for name in names if name.startswith("demo/training/")]


def test_a_wheel_without_the_library_is_for_every_platform(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")


def test_the_source_distribution_can_build_the_library(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    sources = [str(each.relative_to(ROOT)) for each in (ROOT / "cpu_ext" / "csrc").rglob("*") if each.is_file()]
    for name in (*sources, "cpu_ext/CMakeLists.txt", "demo/training/train.py", "demo/eval.jsonl", "setup.py"):
        assert name in names
    assert not [name for name in names if name.endswith(".so")]
