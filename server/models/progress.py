"""How far loading is, in the words of the API."""

from __future__ import annotations

from typing import Any

from engine.messages import LoadProgress


def progress_of(name: str, progress: LoadProgress) -> dict[str, Any]:
    """Progress as `/health`, refusals and the admin API show it.

    Args:
        name: of the model.
        progress: what the engine process said last.
    """
    return {"model": name, "stage": progress.stage, "done": progress.done, "total": progress.total}
