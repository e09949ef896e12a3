"""Reading the small JSON and text files of a model directory, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import QuireError


def read_text(path: Path, error: type[QuireError]) -> str | None:
    """Content of a UTF-8 text file, or None if there is no such file.

    Raises:
        error: the file cannot be read or is not UTF-8; the message names it.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise error(f"{path.parent} is not a directory.") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 text (byte {problem.start}); the file is corrupt.") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}.") from None


def read_json_object(path: Path, error: type[QuireError]) -> dict[str, Any] | None:
    """Content of a JSON file that holds an object, or None if there is no such file.

    Raises:
        error: the file cannot be read, is not JSON, or holds something else than an object; the message names it.
    """
    text = read_text(path, error)
    return None if text is None else parse_json_object(text, path, error)


def parse_json_object(text: str, path: Path, error: type[QuireError]) -> dict[str, Any]:
    """`text`, which was read from `path`, as a JSON object.

    Raises:
        error: it is not JSON, or something else than an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:  # the second: nested too deeply
        raise error(f"{path} is not valid JSON ({problem}); the file is truncated or corrupt.") from None
    if not isinstance(value, dict):
        raise error(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value
