"""Files that are there whole or not at all, whenever the process ends."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

READ_AT_ONCE = 1 << 22


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, or replace one, so that a reader finds the old content or the new one.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    flush(unfinished)
    os.replace(unfinished, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Have the disk take in a file, or the names in a folder.

    Raises:
        OSError: it does not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()
