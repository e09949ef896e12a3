from __future__ import annotations

from pathlib import Path

import pytest

from quire.doctor.python_environment import check_imports, check_packages, check_python
from quire.doctor.requirements import Requirement, parse_pins, parse_requirement, release


@pytest.mark.parametrize(("version", "level"), [((3, 10, 9), "problem"), ((3, 11, 0), "ok"), ((4, 0, 0), "ok")])
def test_python_must_be_new_enough(version: tuple[int, ...], level: str) -> None:
    assert check_python(version).level == level


def test_import_names_of_this_installation_are_ours() -> None:
    assert check_imports().level == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch>=2.10", Requirement("torch", "2.10")),
        ("uvicorn[standard]>=0.34", Requirement("uvicorn", "0.34")),
        ("Prometheus_Client >= 0.21", Requirement("prometheus-client", "0.21")),
        ("numpy", Requirement("numpy", "0")),
        ('pytest>=9; extra == "dev"', None),
        ('numpy>=1.26; python_version >= "3.11"', Requirement("numpy", "1.26")),
    ],
)
def test_requirements_are_read(text: str, expected: Requirement | None) -> None:
    assert parse_requirement(text) == expected


def test_versions_compare_by_their_numbers() -> None:
    assert release("2.10") > release("2.9.1")
    assert release("2.13.0+cpu") == release("2.13")
    assert release("1.0rc1") == release("1")
    assert release("unknown") == (0,)


def test_pins_are_read() -> None:
    assert parse_pins("a==1\n# note\nB_c==2.0+x\n") == {"a": "1", "b-c": "2.0+x"}


@pytest.mark.parametrize(
    ("installed", "level", "words"),
    [
        ({"torch": "2.13.0+cpu", "rich": "15.0.0"}, "ok", "all 2 are there, in the tested versions"),
        ({"torch": "2.12.1", "rich": "15.0.0"}, "warning", "torch 2.12.1 (tested: 2.13.0)"),
        ({"torch": "2.9", "rich": "15.0.0"}, "problem", "torch 2.9 is older than 2.10"),
        ({"torch": "2.13.0"}, "problem", "rich is missing"),
    ],
)
def test_packages(tmp_path: Path, installed: dict[str, str], level: str, words: str) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==2.13.0\nrich==15.0.0\n")
    (finding,) = check_packages(["torch>=2.10", "rich>=13.9", 'ruff; extra == "dev"'], pins, installed.get)
    assert finding.level == level
    assert words in finding.fact
    assert bool(finding.advice) == (level != "ok")


def test_without_pins_minimums_are_enough(tmp_path: Path) -> None:
    (finding,) = check_packages(["torch>=2.10"], tmp_path / "none", {"torch": "2.99"}.get)
    assert (finding.level, finding.fact) == ("ok", "all 1 are there")


def test_an_installation_without_metadata_is_said(tmp_path: Path) -> None:
    (finding,) = check_packages([], tmp_path)
    assert finding.level == "warning"
