from __future__ import annotations

import json
import os
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import LinearShape
from engine.model.formats.exl2 import exl2_state, load_exl2
from engine.ops.exl2 import decode
from quantize.writer import write_model
from tests.engine.ops.exl2_matrices import same_bits
from tests.engine.ops.golden_matrices import golden_exl2

MEBIBYTE = 1 << 20


def kilobytes(*sizes: int) -> list[tuple[str, torch.Tensor]]:
    """Tensors of so many KiB, called t0, t1, …"""
    return [(f"t{index}", torch.full((size, 256), float(index))) for index, size in enumerate(sizes)]


def write(out: Path, tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int = MEBIBYTE) -> dict[str, int]:
    out.mkdir(parents=True, exist_ok=True)
    return write_model(out, tensors, config={"a": 1}, side_files_from=None, shard_bytes=shard_bytes)


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    sizes = write(out, kilobytes(1, 2))
    assert sizes == {"output.safetensors": (out / "output.safetensors").stat().st_size}
    assert {path.name for path in out.iterdir()} == {"config.json", "output.safetensors"}
    assert (out / "config.json").read_text() == '{\n    "a": 1\n}\n'
    checkpoint = Checkpoint.open(out)
    assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in kilobytes(1, 2))
    with safe_open(out / "output.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_large_model_is_cut_into_shards_in_order(tmp_path: Path) -> None:
    sizes = write(tmp_path / "out", kilobytes(2, 2, 3, 9, 1), shard_bytes=5 * 1024)
    checkpoint = Checkpoint.open(tmp_path / "out")
    names = [f"output-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)]
    assert list(sizes) == names
    assert [checkpoint.path_of(f"t{index}").name for index in range(5)] == [names[at] for at in (0, 0, 1, 2, 3)]
    index = json.loads((tmp_path / "out" / "output.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: checkpoint.path_of(name).name for name in checkpoint.names}
    assert index["metadata"]["total_size"] == 17 * 1024


def test_whoever_may_read_the_configuration_may_read_the_weights(tmp_path: Path) -> None:
    write(tmp_path / "out", kilobytes(2, 2), shard_bytes=3 * 1024)
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_the_stem_is_the_callers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_model(out, kilobytes(1, 1), config={}, side_files_from=None, shard_bytes=1024, stem="model")
    names = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
    assert {path.name for path in out.iterdir()} == {"config.json", *names}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 10))
@settings(max_examples=15)
def test_any_model_reads_back_and_no_shard_is_too_large(sizes: list[int], limit: int) -> None:
    tensors = kilobytes(*sizes)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "out", tensors, shard_bytes=limit * 1024)
        checkpoint = Checkpoint.open(Path(folder) / "out")
        assert set(checkpoint.names) == {name for name, _ in tensors}
        held: dict[Path, list[int]] = {}
        for name, tensor in tensors:
            assert torch.equal(checkpoint.tensor(name), tensor)
            held.setdefault(checkpoint.path_of(name), []).append(tensor.nbytes)
    assert all(len(each) == 1 or sum(each) <= limit * 1024 for each in held.values())


def test_views_and_repeated_memory_are_stored_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    write(tmp_path / "out", [("base", base), ("same", base), ("turned", base.T), ("part", base[1:, 2:])])
    checkpoint = Checkpoint.open(tmp_path / "out")
    assert torch.equal(checkpoint.tensor("same"), base)
    assert torch.equal(checkpoint.tensor("turned"), base.T)
    assert torch.equal(checkpoint.tensor("part"), base[1:, 2:])


def test_the_producer_may_reuse_its_memory(tmp_path: Path) -> None:
    def produce() -> Iterator[tuple[str, torch.Tensor]]:
        buffer = torch.empty(4)
        for index in range(3):
            yield f"t{index}", buffer.fill_(index)

    write(tmp_path / "out", produce())
    checkpoint = Checkpoint.open(tmp_path / "out")
    assert [float(checkpoint.tensor(f"t{index}")[0]) for index in range(3)] == [0, 1, 2]


def test_no_tensor_is_kept_in_memory(tmp_path: Path) -> None:
    given: list[weakref.ref[torch.Tensor]] = []

    def produce() -> Iterator[tuple[str, torch.Tensor]]:
        for index in range(4):
            assert sum(copy() is not None for copy in given) <= 1  # the writer's own variable
            tensor = torch.full((256,), float(index))
            given.append(weakref.ref(tensor))
            yield f"t{index}", tensor
            del tensor

    write(tmp_path / "out", produce())
    assert len(given) == 4


def test_tensors_of_all_element_types_are_aligned_and_read_by_safetensors(tmp_path: Path) -> None:
    tensors = {
        "bytes": torch.arange(3, dtype=torch.uint8),
        "halves": torch.arange(5, dtype=torch.float16),
        "brain": torch.arange(3, dtype=torch.bfloat16),
        "words": torch.arange(7, dtype=torch.int32),
        "scalar": torch.tensor(2.5),
        "nothing": torch.empty(0, 4),
        "longs": torch.arange(2),
    }
    out = tmp_path / "out"
    write(out, tensors.items())
    found = load_file(out / "output.safetensors")
    assert set(found) == set(tensors)
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    raw = (out / "output.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    assert length % 8 == 0
    assert all(each["data_offsets"][0] % tensors[name].element_size() == 0 for name, each in header.items())
    assert {path.name for path in out.iterdir()} == {"config.json", "output.safetensors"}


def test_side_files_come_along_and_weights_stay_behind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wanted = (
        "tokenizer.json",
        "tokenizer.model",
        "generation_config.json",
        "chat_template.jinja",
        "LICENSE",
        "README.md",
    )
    unwanted = (
        *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
        *("model.gguf", "consolidated.00.pth", "training_args.bin", "optimizer.pt", "quantize_config.json"),
        *(".gitattributes", ".git/config", ".cache/huggingface/x.json", "onnx/model.onnx", "checkpoint-5/notes.txt"),
    )
    templates = ("additional_chat_templates/tool_use.jinja",)
    for name in (*wanted, *unwanted, *templates, "config.json"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"content of {name}")
    (source / "tokenizer.json").chmod(0o444)
    (source / "linked.txt").symlink_to(source / "LICENSE")
    out = tmp_path / "out"
    out.mkdir()
    write_model(out, kilobytes(1), config={"new": True}, side_files_from=source, shard_bytes=MEBIBYTE)
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {*wanted, *templates, "linked.txt", "config.json", "output.safetensors"}
    assert (out / "tokenizer.model").read_text() == "content of tokenizer.model"
    assert json.loads((out / "config.json").read_text()) == {"new": True}
    assert not (out / "linked.txt").is_symlink()
    assert (out / "tokenizer.json").stat().st_mode & 0o200  # a read-only source does not make a read-only copy


@pytest.mark.parametrize("shard_bytes", [1, MEBIBYTE])
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, shard_bytes: int) -> None:
    with pytest.raises(QuantizationError, match="'t0' comes twice"):
        write(tmp_path / "out", [*kilobytes(1, 1), *kilobytes(1)], shard_bytes)


def test_no_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="no tensors"):
        write(tmp_path / "out", [])


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(QuantizationError, match=re.escape(f"The model cannot be written to {tmp_path}: ")):
        write(tmp_path, kilobytes(1))


def test_what_was_written_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.readlink(f"/proc/self/fd/{descriptor}")))
    out = tmp_path / "out"
    write(out, kilobytes(2, 2), shard_bytes=3 * 1024)
    assert flushed == {str(out), *map(str, out.iterdir())}


def test_an_exl2_matrix_survives_being_written(tmp_path: Path, golden: Path) -> None:
    matrix, references, _ = golden_exl2(golden / "mix854_bias.safetensors")
    write(tmp_path / "out", list(exl2_state("lm_head", matrix).items()))
    loaded = load_exl2(Checkpoint.open(tmp_path / "out"), LinearShape("lm_head", 512, 96, bias=True))
    assert same_bits(decode(loaded), references["weight"])
    assert same_bits(loaded.q_weight, matrix.q_weight)
