"""Quire's packages have plain names (`server`, `engine`, ...), so something else may stand in front of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

NAMES = ("server", "engine", "quantize", "cpu_ext", "cuda_ext", "demo")


def check_import_names() -> None:
    """Make sure that Quire's import names mean Quire's packages.

    Raises:
        ImportError: one of them is missing or hidden; the message names the file that hides it.
    """
    home = Path(__file__).resolve().parent.parent
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(f"Quire's package '{name}' is missing from {home}; install Quire again.")
        found = Path(spec.origin).resolve() if spec.origin else None
        if found != home / name / "__init__.py":
            where = found or ", ".join(spec.submodule_search_locations or ())
            raise ImportError(
                f"{where} hides Quire's package '{name}'. Rename or move it, start from another directory, or "
                "install Quire in an environment of its own."
            )
