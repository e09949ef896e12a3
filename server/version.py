"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Version of the distribution `quire`, or `0+source` when run from a source tree that is not installed."""
    try:
        return version("quire")
    except PackageNotFoundError:
        return "0+source"
