from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint


def save(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


def raw_file(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(directory)
    return str(caught.value)


def test_tensors_of_all_files_are_found_and_read(tmp_path: Path) -> None:
    a, b = torch.arange(6, dtype=torch.int32).reshape(2, 3), torch.randn(5).bfloat16()
    save(tmp_path / "output-00001-of-00002.safetensors", a=a)
    save(tmp_path / "output-00002-of-00002.safetensors", b=b)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.names == ("a", "b")
    assert "a" in checkpoint
    assert "c" not in checkpoint
    assert checkpoint.shape("a") == (2, 3)
    assert checkpoint.dtype("b") == torch.bfloat16
    assert checkpoint.path_of("b").name == "output-00002-of-00002.safetensors"
    assert torch.equal(checkpoint.tensor("a"), a)
    assert torch.equal(checkpoint.tensor("b"), b)


def test_file_names_do_not_matter_and_a_stale_index_is_ignored(tmp_path: Path) -> None:
    save(tmp_path / "anything.safetensors", a=torch.ones(1))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    assert Checkpoint.open(tmp_path).names == ("a",)


def test_a_second_copy_under_other_names_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "consolidated.safetensors", w=torch.ones(1))
    assert Checkpoint.open(tmp_path).names == ("w",)
    save(tmp_path / "model.safetensors", a=torch.ones(1))
    assert Checkpoint.open(tmp_path).names == ("a",)


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn),
        *(torch.int8, torch.uint8, torch.int16, torch.int64, torch.bool),
    ],
)
def test_element_types_from_the_header_are_those_read(tmp_path: Path, dtype: torch.dtype) -> None:
    save(tmp_path / "m.safetensors", a=torch.ones(3).to(dtype))
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.dtype("a") == dtype == checkpoint.tensor("a").dtype


def test_reading_maps_the_file_instead_of_copying_it(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", a=torch.ones(1000))
    checkpoint = Checkpoint.open(tmp_path)
    first, second = checkpoint.tensor("a"), checkpoint.tensor("a")
    assert first.data_ptr() == second.data_ptr()


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", a=torch.ones(1))
    with pytest.raises(CheckpointError, match=r"'model\.norm\.weight' is missing"):
        Checkpoint.open(tmp_path).tensor("model.norm.weight")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing") == f"{tmp_path / 'nothing'}: no such directory"


def test_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    assert "is a file" in refused(save(tmp_path / "m.safetensors", a=torch.ones(1)))


def test_a_directory_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / ".hidden.safetensors").write_bytes(b"")
    assert "no *.safetensors file" in refused(tmp_path)


def test_pickled_weights_alone_are_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    message = refused(tmp_path)
    assert "pytorch_model.bin" in message
    assert "convert" in message


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").touch()
    assert refused(tmp_path) == f"{tmp_path / 'm.safetensors'}: the file is empty; fetch it again"


def test_a_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refused(tmp_path)


def test_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").symlink_to(tmp_path / "gone")
    assert "m.safetensors: cannot be read" in refused(tmp_path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", a=torch.ones(4), b=torch.zeros(2, 2))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        message = refused(tmp_path)
        assert str(path) in message
        assert length == 0 or ("truncated" in message and str(length) in message)


def test_bytes_beyond_the_end(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", a=torch.ones(4))
    path.write_bytes(path.read_bytes() + b"\0")
    assert "corrupt" in refused(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"this is no JSON",
        b"\xff\xfe\xfd",
        b"[" * 20000,
        [],
        {"a": 1},
        {"a": {"dtype": "F32"}},
        {"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": None, "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"a": {"dtype": "NEW", "shape": [1], "data_offsets": [0, 4]}},
    ],
)
def test_a_garbage_header(tmp_path: Path, header: object) -> None:
    path = raw_file(tmp_path / "m.safetensors", header, b"\0" * 4)
    message = refused(tmp_path)
    assert message.startswith(f"{path}: ")
    assert "corrupt" in message


def test_a_garbage_header_length(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 100)
    assert "not a safetensors file" in refused(tmp_path)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", x=torch.ones(1), y=torch.ones(1))
    save(tmp_path / "b.safetensors", x=torch.ones(1))
    message = refused(tmp_path)
    assert "'x' is in both a.safetensors and b.safetensors" in message


def test_an_element_type_torch_lacks_is_refused_when_asked_for(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    raw_file(tmp_path / "m.safetensors", header, b"\0" * 3)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.shape("a") == (4,)
    for read in (checkpoint.dtype, checkpoint.tensor):
        with pytest.raises(CheckpointError, match=r"a in .*m\.safetensors: its element type F6_E2M3"):
            read("a")
