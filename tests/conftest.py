"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference tensors made by the original implementations (see its README)."""
    return GOLDEN


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of large test material that is not part of the project; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which is not part of the project")
    return SHARED
