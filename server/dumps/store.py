"""A folder of request dumps that does not outgrow its limits."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from server.config import ServerConfig

_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-.+\.json")


def open_store(config: ServerConfig) -> DumpStore:
    """The folder that the settings name.

    Raises:
        ConfigError: it cannot be written to.
    """
    directory = Path(config.dump_requests).expanduser()
    return DumpStore(directory, max_files=config.dump_max_files, max_bytes=config.dump_max_bytes)


class DumpStore:
    """Writes dumps, readable by the user of this process only, and removes the oldest ones. For one thread.

    Args:
        directory: is made if it does not exist; files in it that are no dumps are left alone.
        max_files: most dumps.
        max_bytes: most bytes of all dumps.

    Raises:
        ConfigError: the directory cannot be written to.
    """

    def __init__(self, directory: Path, *, max_files: int, max_bytes: int) -> None:
        self._directory = directory
        self._max_files = max_files
        self._max_bytes = max_bytes
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = sorted(each for each in directory.iterdir() if _NAME.fullmatch(each.name))
            self._files = deque((each, each.stat().st_size) for each in found)
        except OSError as problem:
            raise ConfigError(f"dump_requests: {directory} cannot be used: {problem.strerror}.") from None
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(f"dump_requests: {directory} cannot be written to.")
        self._bytes = sum(size for _, size in self._files)

    def write(self, moment: str, request_id: str, dump: dict[str, Any]) -> Path:
        """Write a dump.

        Args:
            moment: when the request came, in UTC, as `20260131T235959.123456Z`.
            request_id: of printable characters without `/`.
            dump: what to write, as JSON.

        Raises:
            OSError: there is no room, or it is larger than all dumps may be.
        """
        data = json.dumps(dump, indent=1).encode()
        if len(data) > self._max_bytes:
            raise OSError(f"a dump of {len(data)} bytes is larger than dump_max_bytes")
        path = self._directory / f"{moment}-{request_id}.json"
        temporary = path.with_suffix(".part")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._files.append((path, len(data)))
        self._bytes += len(data)
        while len(self._files) > self._max_files or self._bytes > self._max_bytes:
            oldest, size = self._files.popleft()
            oldest.unlink(missing_ok=True)
            self._bytes -= size
        return path
