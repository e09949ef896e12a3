"""A run of the tests is the same as any other, whatever ran before and in whatever order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[tuple[int, str]]:
    """The examples of a test that draws numbers and texts."""
    seen: list[tuple[int, str]] = []

    @given(st.integers(), st.text())
    @settings(max_examples=200)
    def look(number: int, text: str) -> None:
        seen.append((number, text))

    look()
    return seen


@pytest.mark.skipif(not settings.default or not settings.default.derandomize, reason="examples are to be random")
def test_examples_do_not_depend_on_what_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn()
    (tmp_path / "full_of_constants.py").write_text(f"{[*range(1000, 1300)]}")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        __import__("full_of_constants")
        assert drawn() == before
    finally:
        sys.modules.pop("full_of_constants", None)
