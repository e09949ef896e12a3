"""Writing a model's files: weight shards, config.json and the source's side files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from engine.errors import QuantizationError
from quantize.output_directory import flush_files

WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".npz"}
)
INDEX_SUFFIX = ".index.json"
NOT_COPIED = frozenset({"config.json", "quantize_config.json"})  # written anew; speaks of the source's quantization
SIDE_FOLDERS = ("additional_chat_templates",)
METADATA = {"format": "pt"}  # some readers insist on it


def write_model(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    *,
    config: Mapping[str, object],
    side_files_from: Path | None,
    shard_bytes: int,
    stem: str = "output",
) -> dict[str, int]:
    """Write a model into an empty folder (see `output_directory`) and have the disk take it in.

    Tensors are taken from the iterable one by one and only one shard of them is held in memory: a shard is closed
    before the next tensor would make it larger than `shard_bytes`.

    Args:
        folder: where to.
        tensors: names and tensors in the order to be stored. They are copied when taken, so that the producer may
            reuse its memory.
        config: content of config.json.
        side_files_from: directory whose other files (tokenizer, templates, generation config, licence, …) come
            along; None for none. Weights, weight indexes, hidden files and sub-folders stay behind, except a folder
            of chat templates.
        shard_bytes: largest size of a shard, unless a single tensor is larger.
        stem: what the weight files are called. ExLlamaV2 writes `output`; transformers looks for `model`.

    Returns:
        Size in bytes of each weight file, by name: `STEM.safetensors`, or `STEM-00001-of-0000N.safetensors` with an
        index beside them.

    Raises:
        QuantizationError: a name comes twice, there are no tensors, or the files cannot be written.
    """
    try:
        if side_files_from is not None:
            _copy_side_files(side_files_from, folder)
        (folder / "config.json").write_text(json.dumps(config, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
        sizes = _write_shards(folder, stem, tensors, shard_bytes)
        flush_files(folder)
    except (OSError, SafetensorError) as error:
        raise QuantizationError(f"The model cannot be written to {folder}: {error}") from error
    return sizes


def _copy_side_files(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file() and _is_side_file(path):
            shutil.copyfile(path, target / path.name)
        elif path.is_dir() and path.name in SIDE_FOLDERS:
            shutil.copytree(path, target / path.name, copy_function=shutil.copyfile)


def _is_side_file(path: Path) -> bool:
    return not (
        path.name.startswith(".")
        or path.name in NOT_COPIED
        or path.name.endswith(INDEX_SUFFIX)
        or path.suffix in WEIGHT_SUFFIXES
    )


def _write_shards(
    folder: Path, stem: str, tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int
) -> dict[str, int]:
    """Write the weight files; names carry the number of shards, so they are given when all are written."""
    written: list[Path] = []
    shard_of: dict[str, int] = {}
    tensor_bytes = 0
    for shard in _shards(tensors, shard_bytes):
        for name in shard:
            if name in shard_of:
                raise QuantizationError(f"tensor '{name}' comes twice")
            shard_of[name] = len(written)
        tensor_bytes += sum(tensor.nbytes for tensor in shard.values())
        written.append(folder / f"shard-{len(written) + 1}.safetensors")
        save_file(shard, written[-1], metadata=METADATA)
        shard.clear()  # free its memory before the next one is gathered
    if not written:
        raise QuantizationError("there are no tensors to write")
    names = _shard_names(stem, len(written))
    mode = (folder / "config.json").stat().st_mode  # safetensors lets nobody but the owner read what it writes
    for path, name in zip(written, names, strict=True):
        path.chmod(mode)
        path.rename(folder / name)
    if len(names) > 1:
        file_of = {name: names[shard] for name, shard in shard_of.items()}
        _write_index(folder / f"{stem}.safetensors{INDEX_SUFFIX}", file_of, tensor_bytes)
    return {name: (folder / name).stat().st_size for name in names}


def _shards(tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int) -> Iterator[dict[str, torch.Tensor]]:
    """Gather tensors into shards of at most `shard_bytes`; the one given out is the only one in memory."""
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if name in shard:
            raise QuantizationError(f"tensor '{name}' comes twice")
        if shard and size + tensor.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        size += tensor.nbytes
    if shard:
        yield shard


def _shard_names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _write_index(path: Path, file_of: Mapping[str, str], tensor_bytes: int) -> None:
    """The index the Hub and transformers expect beside shards; Quire and ExLlamaV2 do without."""
    index = {"metadata": {"total_size": tensor_bytes}, "weight_map": dict(file_of)}
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
