"""Writing a model's files: weight shards, config.json and the source's side files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from engine.errors import QuantizationError
from quantize.output_directory import flush_files
from quantize.shard_file import ShardFile

WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".npz"}
)
INDEX_SUFFIX = ".index.json"
NOT_COPIED = frozenset({"config.json", "quantize_config.json"})  # written anew; speaks of the source's quantization
SIDE_FOLDERS = ("additional_chat_templates",)


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

    Tensors are taken from the iterable one by one and written at once, so the producer may reuse its memory. A shard
    is closed before the next tensor would make it larger than `shard_bytes`.

    Args:
        folder: where to.
        tensors: names and tensors, in the order in which they fill the shards.
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
    except OSError as error:
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
    shards: list[ShardFile] = []
    try:
        for name, tensor in tensors:
            if any(name in shard.names for shard in shards):
                raise QuantizationError(f"tensor '{name}' comes twice")
            if not shards or (shards[-1].nbytes and shards[-1].nbytes + tensor.nbytes > shard_bytes):
                if shards:
                    shards[-1].close()
                shards.append(ShardFile(folder / f"shard-{len(shards) + 1}.safetensors"))
            shards[-1].add(name, tensor)
        if not shards:
            raise QuantizationError("there are no tensors to write")
        shards[-1].close()
    finally:
        if shards:
            shards[-1].discard()
    names = _shard_names(stem, len(shards))
    for shard, name in zip(shards, names, strict=True):
        shard.path.rename(folder / name)
    if len(names) > 1:
        file_of = {tensor: name for shard, name in zip(shards, names, strict=True) for tensor in shard.names}
        _write_index(folder / f"{stem}.safetensors{INDEX_SUFFIX}", file_of, sum(shard.nbytes for shard in shards))
    return {name: (folder / name).stat().st_size for name in names}


def _shard_names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _write_index(path: Path, file_of: Mapping[str, str], tensor_bytes: int) -> None:
    """The index the Hub and transformers expect beside shards; Quire and ExLlamaV2 do without."""
    index = {"metadata": {"total_size": tensor_bytes}, "weight_map": dict(file_of)}
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
