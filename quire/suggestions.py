"""Did you mean …?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known word most like `word`, with a space in front; nothing if none is close."""
    by_plain = {_plain(each): each for each in known}
    close = difflib.get_close_matches(_plain(word), by_plain, n=1, cutoff=0.6)
    return f" Did you mean {by_plain[close[0]]}?" if close else ""


def _plain(word: str) -> str:
    return word.lower().replace("_", "-").lstrip("-")
