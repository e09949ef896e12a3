"""Where models are written: nothing half-done under the final name, nothing finished lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engine.errors import CheckpointError, QuantizationError
from quantize.output_directory import output_directory, require_free


def fill(folder: Path) -> None:
    (folder / "templates").mkdir()
    for name in ("config.json", "output.safetensors", "tokenizer.json", "templates/a"):
        (folder / name).write_text(name)


def content(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WHOLE = {"config.json", "output.safetensors", "tokenizer.json", "templates/a"}


def test_a_new_directory_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with output_directory(out) as folder:
        fill(folder)
        assert not out.exists()
        assert folder.parent == out.parent
    assert content(out) == WHOLE
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_directory_stays_the_same_directory(tmp_path: Path) -> None:
    """It may be a mounted volume, which cannot be replaced, and what is beside it may be another file system."""
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    with output_directory(out) as folder:
        fill(folder)
        assert folder.parent == out
        assert not (out / "config.json").exists()
    assert out.stat().st_ino == inode
    assert content(out) == WHOLE
    assert {path.name for path in out.iterdir()} == {name.partition("/")[0] for name in WHOLE}


def test_in_an_empty_directory_the_configuration_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    rename = Path.rename

    def watch(path: Path, target: Path) -> Path:
        moved.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watch)
    with output_directory(tmp_path) as folder:
        fill(folder)
    assert len(moved) == 4
    assert moved[-1] == "config.json"


def test_the_working_directory_and_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with output_directory(tmp_path / "link") as folder:
        fill(folder)
    assert (tmp_path / "link").is_symlink()
    assert content(real) == WHOLE
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with output_directory(Path()) as folder:
        fill(folder)
        monkeypatch.chdir(tmp_path)
    assert content(tmp_path / "here") == WHOLE


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [CheckpointError("the source is broken"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(tmp_path: Path, error: BaseException, exists: bool) -> None:
    out = tmp_path / "out"
    if exists:
        out.mkdir()

    def fail() -> None:
        with output_directory(out) as folder:
            fill(folder)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.rglob("*")) == [out] * exists


@pytest.mark.parametrize("exists", [False, True])
def test_a_finished_model_is_never_lost(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    folders = []

    def lose_the_place() -> None:
        with output_directory(out) as folder:
            folders.append(folder)
            fill(folder)
            out.mkdir(exist_ok=True)
            (out / "somebody-elses").touch()

    with pytest.raises(QuantizationError) as caught:
        lose_the_place()
    assert content(folders[0]) == WHOLE
    assert (out / "somebody-elses").exists()
    assert f"The model is complete, but it cannot be moved to {out}" in str(caught.value)
    assert f"It lies in {folders[0]};" in str(caught.value)


def test_an_out_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(QuantizationError, match=re.escape(f"{out}: already exists and is not empty")):
        output_directory(out).__enter__()
    assert content(tmp_path) == {"out/precious"}
    with pytest.raises(QuantizationError, match="is not a directory"):
        require_free(out / "precious")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(QuantizationError, match="is not a directory"):
        require_free(tmp_path / "loop")


def test_places_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QuantizationError, match=re.escape(f"{tmp_path / 'file' / 'out'}: the model cannot be written")):
        output_directory(tmp_path / "file" / "out").__enter__()
    with pytest.raises(QuantizationError, match="File name too long"):
        require_free(tmp_path / ("x" * 300))

    def forbid(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbid)
    with pytest.raises(QuantizationError, match=r"out cannot be written to: Permission denied; name another"):
        require_free(tmp_path / "out")


def test_the_new_name_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with output_directory(tmp_path / "out") as folder:
        fill(folder)
    assert flushed == [str(tmp_path)]
