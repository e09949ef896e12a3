"""Where a model is written: under another name until it is complete, and kept once it is."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from engine.errors import QuantizationError
from quantize.atomic_file import flush

LAST = "config.json"
"""Without it a directory is no model, so it comes last."""

WORK = "quire.work"
"""What may lie in a directory that counts as empty: the work of a job that will write to it."""


def removed_name(work: Path) -> Path:
    """What a work directory is called while it is being deleted."""
    return work.with_name(f"{work.name}.being-deleted")


def require_free(out: Path) -> Path:
    """Make sure that a model may be written to `out`; worth asking before hours of work.

    Returns:
        `out` without symbolic links, so that it means the same for the rest of the job.

    Raises:
        QuantizationError: `out` is a file or a directory with something in it, or cannot be looked at.
    """
    real = Path(os.path.realpath(out))
    try:
        if real.is_dir():
            if any(not _is_work(path) for path in real.iterdir()):
                raise QuantizationError(f"{out}: already exists and is not empty; remove it or name another directory")
        elif real.exists() or real.is_symlink():
            raise QuantizationError(f"{out}: already exists and is not a directory; name another one")
    except OSError as error:
        raise QuantizationError(f"{out} cannot be written to: {error.strerror}; name another directory.") from None
    return real


@contextlib.contextmanager
def output_directory(out: Path) -> Iterator[Path]:
    """A folder to make a model in, which becomes `out` when the `with` block ends.

    The folder is a sibling of `out`, which is renamed; or, where `out` is an empty directory already (a mounted volume,
    the working directory), a folder in it, whose files then move up, config.json last. Either way it lies on the file
    system the model will lie on, and nothing that can be loaded is called `out` before it is complete.

    If the block fails, the folder is removed. If it succeeds but the model cannot be given its name, it stays and the
    message says where.

    Raises:
        QuantizationError: `out` is not free, cannot be written to, or was filled by someone else meanwhile.
    """
    real = require_free(out)
    name = f"{real.name}.partial-{secrets.token_hex(4)}"
    staging = real / name if real.is_dir() else real.with_name(name)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, staging, ignore_errors=True)
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise QuantizationError(f"{out}: the model cannot be written there: {error.strerror}.") from None
        yield staging
        on_failure.pop_all()
    publish(staging, real)


def publish(staging: Path, out: Path, *, interrupted: bool = False) -> None:
    """Give a complete model its name: rename its folder, or move its files where `out` is an empty directory.

    Args:
        staging: the folder, on the file system of `out`.
        out: without symbolic links.
        interrupted: an earlier call may have moved some of the files.

    Raises:
        QuantizationError: it cannot be moved; the message says where it lies.
    """
    try:
        if out.is_dir():
            _move_files(staging, out, interrupted)
        else:
            staging.rename(out)
            flush(out.parent)
    except OSError as error:
        raise QuantizationError(
            f"The model is complete, but it cannot be moved to {out} ({error.strerror}). It lies in {staging}; "
            "move it from there by hand."
        ) from error


def _move_files(staging: Path, out: Path, interrupted: bool) -> None:
    if not interrupted and any(not _is_work(path) and path != staging for path in out.iterdir()):
        raise FileExistsError(errno.EEXIST, "other files have appeared there meanwhile")
    for path in sorted(staging.iterdir(), key=lambda each: (each.name == LAST, each.name)):
        if path.name == LAST:
            flush(out)
        path.rename(out / path.name)
    staging.rmdir()
    flush(out)


def flush_files(folder: Path) -> None:
    """Have the disk take in all files of a folder, and their names, before anything says that they are there.

    Raises:
        OSError: it does not.
    """
    for path, _, names in os.walk(folder):
        for name in names:
            flush(Path(path) / name)
        flush(Path(path))


def _is_work(path: Path) -> bool:
    return path.name in (WORK, removed_name(path.with_name(WORK)).name)
