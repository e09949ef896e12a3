"""Checks of the Python environment: interpreter, import names, packages."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from quire.doctor.finding import Finding, ok, problem, warning
from quire.doctor.requirements import Requirement, parse_pins, parse_requirement, release
from quire.import_names import check_import_names

OLDEST_PYTHON = (3, 11)
PINS = Path(__file__).resolve().parents[2] / "requirements" / "constraints.txt"
"""Tested versions; part of a checkout, not of an installed package."""

REPAIR = "Install again: make install in a checkout, or pip install --upgrade quire."


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Whether this Python is new enough."""
    shown = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return problem("python", f"{shown} ({sys.executable})", f"Quire needs Python {oldest} or newer.")
    return ok("python", f"{shown} ({sys.executable})")


def check_imports() -> Finding:
    """Whether `server`, `engine` and so on mean Quire's packages."""
    try:
        check_import_names()
    except ImportError as hidden:
        return problem("import names", str(hidden), "Do as it says, then start again.")
    return ok("import names", f"are Quire's own, in {Path(__file__).resolve().parents[2]}")


def installed_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def declared_requirements() -> Sequence[str]:
    """What the installed package says it needs; nothing where Quire runs without being installed."""
    try:
        return importlib.metadata.requires("quire") or ()
    except importlib.metadata.PackageNotFoundError:
        return ()


def check_packages(
    declared: Sequence[str] | None = None,
    pins: Path = PINS,
    version_of: Callable[[str], str | None] = installed_version,
) -> Iterator[Finding]:
    """Whether every required package is there, new enough, and the version Quire was tested with.

    Args:
        declared: requirements in the form of package metadata; None asks the installed package.
        pins: file of `name==version` lines; need not exist.
        version_of: version of an installed package, None for one that is missing.
    """
    words = declared_requirements() if declared is None else declared
    requirements = [each for each in map(parse_requirement, words) if each is not None]
    if not requirements:
        yield warning("packages", "Quire is not installed in this Python, so what it needs is not known", REPAIR)
        return
    found = {each.name: version_of(each.name) for each in requirements}
    unfit = [_unfit(each, found[each.name]) for each in requirements]
    complaints = [each for each in unfit if each]
    if complaints:
        yield problem("packages", "; ".join(complaints), REPAIR)
        return
    tested = _pins(pins)
    other = [
        f"{name} {version} (tested: {tested[name]})"
        for name, version in found.items()
        if version is not None and name in tested and release(version) != release(tested[name])
    ]
    if other:
        yield warning(
            "packages",
            f"{len(found)} are there; not the tested versions: {', '.join(other)}",
            "If something misbehaves, put the tested ones back: make install.",
        )
    else:
        yield ok("packages", f"all {len(found)} are there{', in the tested versions' if tested else ''}")


def _unfit(requirement: Requirement, found: str | None) -> str:
    """What is wrong with an installed version, or nothing."""
    if found is None:
        return f"{requirement.name} is missing"
    if release(found) < release(requirement.minimum):
        return f"{requirement.name} {found} is older than {requirement.minimum}"
    return ""


def _pins(path: Path) -> Mapping[str, str]:
    try:
        return parse_pins(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
