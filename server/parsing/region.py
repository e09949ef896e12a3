"""Texts in which markers open regions of calls: what stands outside of the regions is content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from server.parsing.base import Event
from server.parsing.findings import Findings
from server.parsing.markers import split_at_marker


class Region(Protocol):
    """Reads what stands behind a marker, and says where that ends. What it finds it puts into `Findings`."""

    @property
    def over(self) -> bool:
        """Whether what follows is outside."""
        ...

    def feed(self, text: str) -> int:
        """Take in the text; says how much of it was used. The rest is shown again, with more behind it."""
        ...

    def finish(self, rest: str) -> None:
        """The text has ended within the region.

        Args:
            rest: what was not used.
        """
        ...


class RegionParser:
    """A `StreamParser` for formats with markers.

    Args:
        findings: the regions put theirs there too.
        markers: open a region.
        opened: makes the region a marker opens. What is no call it gives back as content, marker and all.
        first: a region the text begins with, without a marker.
    """

    def __init__(
        self,
        findings: Findings,
        markers: Sequence[str],
        opened: Callable[[str], Region],
        first: Region | None = None,
    ) -> None:
        self._findings = findings
        self._markers = markers
        self._opened = opened
        self._region = first
        self._held = ""

    def feed(self, text: str) -> list[Event]:
        """As `StreamParser.feed`."""
        self._held += text
        self._go_on(ended=False)
        return self._findings.take()

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`."""
        self._go_on(ended=True)
        return self._findings.take_last()

    def _go_on(self, *, ended: bool) -> None:
        while self._held:
            if self._region is None:
                split = split_at_marker(self._held, self._markers, ended=ended)
                self._findings.content(split.text)
                self._held = split.rest
                if split.marker is None:
                    break
                self._region = self._opened(split.marker)
            used = self._region.feed(self._held)
            self._held = self._held[used:]
            if not self._region.over:
                break
            self._region = None
        if ended and self._region is not None:
            self._region.finish(self._held)
            self._region, self._held = None, ""
