"""What has been done of one size of a model: its parts, one after the other, each there whole or not at all.

progress.json               the parts that are done, with SHA-256 of all files that count
part-00000.safetensors …    their tensors
streams-00003/              residual streams of the calibration rows before part 3, the next one
model/                      the finished model, until it gets its name
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from engine.errors import QuantizationError
from engine.model_files import read_json_object
from quantize.atomic_file import file_digest, flush, write_atomically
from quantize.matrix_report import MatrixReport, matrix_report_from_json
from quantize.model_quantizer import STREAM_FILES, BlockResult
from quantize.shard_file import ShardFile

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model that is done.

    Attributes:
        tensors: SHA-256 of the file of its tensors.
        streams: SHA-256 of each file of the residual streams behind it.
        reports, digests: see `BlockResult`.
        seconds: it took.
    """

    tensors: str
    streams: dict[str, str]
    reports: tuple[MatrixReport, ...]
    digests: dict[str, str]
    seconds: float


class Journal:
    """The parts of one size.

    Args:
        folder: of this size.

    Raises:
        QuantizationError: what is recorded is not what is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        known = read_json_object(folder / PROGRESS_FILE, QuantizationError)
        try:
            self.parts = [] if known is None else [_part_from_json(each) for each in known["parts"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise QuantizationError(
                f"{folder / PROGRESS_FILE} is damaged ({error!r}); --restart begins anew."
            ) from None
        self._remove_leftovers()
        self._check()

    @property
    def done(self) -> int:
        """Number of parts that are done."""
        return len(self.parts)

    @property
    def streams(self) -> Path:
        """Folder of the streams before the next part."""
        return self._folder / f"streams-{self.done:05}"

    @property
    def model(self) -> Path:
        """Folder of the finished model."""
        return model_folder(self._folder)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of all parts in order, each read when it is drawn."""
        for index in range(self.done):
            with safe_open(self._file(index), framework="pt") as file:
                for name in file.offset_keys():
                    yield name, file.get_tensor(name)

    @contextmanager
    def next_part(self, *, last: bool) -> Iterator[PartInProgress]:
        """Work on the next part for the duration of a `with` block; behind it, the part is done.

        Args:
            last: no part follows, so streams behind it are not kept.

        Raises:
            QuantizationError: the disk does not take it.
        """
        part = PartInProgress(self._folder / f"streams-{self.done + 1:05}")
        start = time.perf_counter()
        try:
            if self.streams.is_dir():
                shutil.copytree(self.streams, part.streams)
            else:
                part.streams.mkdir()
            yield part
            self._commit(part, last, start)
        except OSError as error:
            raise QuantizationError(f"{self._folder}: the work cannot be saved: {error.strerror}.") from error

    def _commit(self, part: PartInProgress, last: bool, start: float) -> None:
        path = self._file(self.done)
        shard = ShardFile(path)
        for name, tensor in part.result.tensors.items():
            shard.add(name, tensor)
        shard.close()
        flush(path)
        streams = {} if last else {name: _flushed_digest(part.streams / name) for name in STREAM_FILES}
        if last:
            shutil.rmtree(part.streams)
        flush(self._folder)
        before, result = self.streams, part.result
        seconds = round(time.perf_counter() - start, 3)
        done = Part(file_digest(path), streams, tuple(result.reports), result.digests, seconds)
        record = {"parts": [asdict(each) for each in (*self.parts, done)]}
        write_atomically(self._folder / PROGRESS_FILE, json.dumps(record, indent=1) + "\n")
        self.parts.append(done)
        shutil.rmtree(before, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self._folder / f"part-{index:05}.safetensors"

    def _remove_leftovers(self) -> None:
        """Files of parts that were not finished, and streams that are not needed any more."""
        kept = {
            PROGRESS_FILE,
            self.streams.name,
            self.model.name,
            *(self._file(each).name for each in range(self.done)),
        }
        for path in self._folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _check(self) -> None:
        """Hold the files to what is recorded of them."""
        expected = {self._file(index): part.tensors for index, part in enumerate(self.parts)}
        if self.parts:
            expected |= {self.streams / name: digest for name, digest in self.parts[-1].streams.items()}
        for path, digest in expected.items():
            try:
                found = file_digest(path)
            except OSError as error:
                found = error.strerror or "unreadable"
            if found != digest:
                raise QuantizationError(
                    f"{path} is not what the interrupted job left there. Check the disk; --restart begins anew."
                )


class PartInProgress:
    """A part that is being worked on.

    Args:
        streams: folder of the residual streams, to be advanced in place.

    Attributes:
        result: to be set to what came of it.
    """

    def __init__(self, streams: Path) -> None:
        self.streams = streams
        self.result = BlockResult({}, [], {})


def model_folder(folder: Path) -> Path:
    """Where the finished model of a size lies that has its work in `folder`."""
    return folder / "model"


def _flushed_digest(path: Path) -> str:
    flush(path)
    return file_digest(path)


def _part_from_json(value: dict[str, Any]) -> Part:
    """What `asdict` made of a part."""
    fields = dict(value)
    reports = tuple(matrix_report_from_json(each) for each in fields.pop("reports"))
    return Part(reports=reports, **fields)
