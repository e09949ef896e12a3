"""A model directory's tensors: which there are, where, and reading them memory-mapped.

Every `*.safetensors` file of the directory is read and an index file is ignored: converters leave stale ones behind.
(The one exception: a second copy of the weights that is called `consolidated…`.)
Headers are checked when the directory is opened, so that a download that stopped half way is found before anything
else happens; tensors are mapped only when asked for.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open

from engine.errors import CheckpointError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Element types Quire can read, by their names in a safetensors header."""

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
GIT_LFS_POINTER = b"version https://git-lfs"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth"})
CONSOLIDATED = "consolidated"  # Mistral publishes the weights a second time, under names of its own


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a header says about one tensor."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


class Checkpoint:
    """The tensors of a model directory. Made by `Checkpoint.open`."""

    def __init__(self, directory: Path, entries: Mapping[str, _Entry], readers: Mapping[Path, Any]) -> None:
        self.directory = directory
        self._entries = entries
        self._readers = readers
        self._read: set[str] = set()

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read the headers of every `*.safetensors` file in `directory`.

        Raises:
            CheckpointError: the directory is missing or has no safetensors file; a file is empty, truncated or
                corrupt; or two files hold a tensor of the same name (which of them is meant cannot be known; the
                original loader takes whichever file it happens to see last).
        """
        entries: dict[str, _Entry] = {}
        readers: dict[Path, Any] = {}
        for path in _weight_files(directory):
            for name, entry in _read_entries(path):
                if name in entries:
                    raise CheckpointError(
                        f"{directory}: tensor '{name}' is in both {entries[name].path.name} and {path.name}; "
                        "remove the file that does not belong to this model"
                    )
                entries[name] = entry
            readers[path] = _open_mapped(path)
        return cls(directory, entries, readers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, file by file."""
        return tuple(self._entries)

    @property
    def num_bytes(self) -> int:
        """Size of all tensors, as stored."""
        return sum(entry.num_bytes for entry in self._entries.values())

    @property
    def bytes_read(self) -> int:
        """Size of the tensors that have been asked for, as stored."""
        return sum(self._entries[name].num_bytes for name in self._read)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def path_of(self, name: str) -> Path:
        """The file that holds the tensor.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._entry(name).path

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor, from the header alone.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Element type of the tensor, from the header alone.

        Raises:
            CheckpointError: there is no such tensor, or torch has no such element type.
        """
        stored = self._entry(name).dtype
        if stored not in DTYPES:
            raise self.error(name, f"its element type {stored} cannot be read; known are {', '.join(DTYPES)}")
        return DTYPES[stored]

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU, mapped from its file: pages are read when touched. Do not write to it.

        Raises:
            CheckpointError: there is no such tensor, its element type is unknown, or it cannot be read.
        """
        self.dtype(name)
        try:
            tensor: torch.Tensor = self._readers[self.path_of(name)].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise self.error(name, f"it cannot be read: {error}") from error
        self._read.add(name)
        return tensor

    def error(self, name: str, fact: str) -> CheckpointError:
        """An error about one tensor that names the tensor, its file and what is wrong. For the caller to raise."""
        if name in self._entries:
            return CheckpointError(f"{name} in {self._entries[name].path}: {fact}")
        return CheckpointError(f"{name} in {self.directory}: {fact}")

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise CheckpointError(f"{self.directory}: tensor '{name}' is missing")
        return self._entries[name]


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory, by name; at least one."""
    if not directory.exists():
        raise CheckpointError(f"{directory}: no such directory")
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: is a file; a model is a directory with config.json and *.safetensors")
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be read: {error}") from error
    found = [directory / name for name in names if name.endswith(".safetensors") and not name.startswith(".")]
    if found:
        return [path for path in found if not path.name.startswith(CONSOLIDATED)] or found
    pickles = [name for name in names if Path(name).suffix in PICKLE_SUFFIXES]
    if pickles:
        raise CheckpointError(
            f"{directory}: has PyTorch weights ({pickles[0]}) but no *.safetensors; convert them first, for example "
            "with save_pretrained() of transformers"
        )
    raise CheckpointError(f"{directory}: no *.safetensors file; is this a model directory, and downloaded completely?")


def _read_entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    """Names and facts of the tensors in one file, its length checked against its header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(max(LENGTH_BYTES, len(GIT_LFS_POINTER)))
            header_bytes = _header_length(path, size, start)
            file.seek(LENGTH_BYTES)
            text = file.read(header_bytes)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    header = _parse_header(path, text)
    data_bytes = 0
    for name, facts in header.items():
        entry, end = _parse_entry(path, name, facts)
        data_bytes = max(data_bytes, end)
        yield name, entry
    expected = LENGTH_BYTES + header_bytes + data_bytes
    if size < expected:
        raise CheckpointError(
            f"{path}: truncated: its header speaks of {expected} bytes, the file has {size}; fetch it again"
        )
    if size > expected:
        raise CheckpointError(
            f"{path}: corrupt: its header speaks of {expected} bytes, the file has {size}; fetch it again"
        )


def _open_mapped(path: Path) -> Any:
    """The file, mapped by the safetensors library, which checks what the header says tensor by tensor."""
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: corrupt: {error}") from error


def _header_length(path: Path, size: int, start: bytes) -> int:
    """Bytes of the JSON header of a file of `size` bytes that begins with `start`."""
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty; fetch it again")
    if start.startswith(GIT_LFS_POINTER):
        raise CheckpointError(f"{path}: is a Git LFS pointer, not the weights themselves; run `git lfs pull`")
    if size < LENGTH_BYTES:
        raise CheckpointError(f"{path}: truncated: {size} bytes are too few for a safetensors file; fetch it again")
    (length,) = struct.unpack("<Q", start[:LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: not a safetensors file: its first bytes are no header length")
    if length > size - LENGTH_BYTES:
        raise CheckpointError(
            f"{path}: truncated: its header alone takes {length} bytes, the file has {size}; fetch it again"
        )
    return int(length)


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    """The header's tensors by name, without the free-form metadata."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:  # the first: JSON and UTF-8 errors
        raise CheckpointError(f"{path}: corrupt: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: corrupt: its header is not a JSON object")
    header.pop("__metadata__", None)
    return header


def _parse_entry(path: Path, name: str, facts: Any) -> tuple[_Entry, int]:
    """One tensor of a header, and the offset at which its data end."""
    corrupt = CheckpointError(f"{path}: corrupt: its header describes tensor '{name}' as {facts!r}")
    if not isinstance(facts, dict):
        raise corrupt
    dtype, shape, offsets = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise corrupt
    return _Entry(path, dtype, tuple(shape), offsets[1] - offsets[0]), offsets[1]


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
