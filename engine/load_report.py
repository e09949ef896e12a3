"""How loading a model tells of itself while it goes on: the part reached, and how much of it is done."""

from __future__ import annotations

from typing import Protocol


class LoadReport(Protocol):
    """Told by whoever loads a model. Nothing is told in between unless there has been progress."""

    @property
    def room_to_come(self) -> int:
        """Bytes of memory that others may give back while `checked` is waited for; rather too many than too few."""
        ...

    def checked(self) -> None:
        """Everything that can be known without loading has been looked at and is in order; may hold loading up."""
        ...

    def stage(self, name: str, total: int = 0) -> None:
        """A part begins.

        Args:
            name: `weights`, `cache`, ...
            total: what `reach` counts up to; 0 where nothing can be counted.
        """
        ...

    def reach(self, done: int) -> None:
        """`done` of the part's total is done."""
        ...


class Unreported:
    """A `LoadReport` for whom nobody listens."""

    room_to_come = 0

    def checked(self) -> None:
        """Go on."""

    def stage(self, name: str, total: int = 0) -> None:
        """Say nothing."""

    def reach(self, done: int) -> None:
        """Say nothing."""


UNREPORTED = Unreported()
