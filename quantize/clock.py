"""Seconds that the stages of a job take."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from engine.errors import QuantizationError
from engine.model_files import read_json_object
from quantize.atomic_file import write_atomically


class Clock:
    """Adds up the seconds of named stages.

    Args:
        seconds: to begin with, by name.

    Attributes:
        seconds: so far, by name.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds = dict(seconds or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens while the context is open."""
        start = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - start)

    def save(self, path: Path) -> None:
        """Write the seconds to a file.

        Raises:
            OSError: the disk does not take it.
        """
        write_atomically(path, json.dumps(self.seconds) + "\n")

    def add_saved(self, path: Path) -> None:
        """Add what an earlier clock saved.

        Raises:
            QuantizationError: the file is damaged.
        """
        for name, seconds in (read_json_object(path, QuantizationError) or {}).items():
            self.add(name, float(seconds))

    def add(self, name: str, seconds: float) -> None:
        """Add what was measured elsewhere."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
