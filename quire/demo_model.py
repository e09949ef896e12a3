"""The small model that comes with Quire."""

from __future__ import annotations

from pathlib import Path

from engine.errors import CheckpointError

NAME = "quire-demo"


def demo_model() -> Path:
    """Directory of the demo model.

    Raises:
        CheckpointError: this installation has none.
    """
    directory = Path(__file__).resolve().parent.parent / "demo" / NAME
    if not (directory / "config.json").is_file():
        raise CheckpointError(
            f"The demo model is not part of this installation ({directory} has no config.json). "
            "Name a model: quire serve MODEL."
        )
    return directory
