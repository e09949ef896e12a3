"""What docs/quantization.md says the quantizer reaches is what the committed results say, and is what was aimed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quantizer_levers import levers
from benchmarks.quantizer_results import YARDSTICK, compared, load, points, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/quantizer-2026-11-22"
PAGE = (ROOT / "docs/quantization.md").read_text(encoding="utf-8")
MODELS = ("quire-demo", "tinystories-656k", "stories260k")
SIZES = [2.5, 3.0, 3.5, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("model", MODELS)
def test_the_page_has_the_table_of_the_results(model: str) -> None:
    assert table(load(RESULTS / f"{model}.json")) in PAGE


@pytest.mark.parametrize("model", ["tinystories-656k", "quire-demo"])
def test_the_page_says_what_each_lever_is_worth(model: str) -> None:
    assert levers(load(RESULTS / "ablation" / f"{model}.json")) in PAGE


@pytest.mark.parametrize("model", MODELS)
def test_ours_is_never_worse_and_always_within_its_budget(model: str) -> None:
    known = points(load(RESULTS / f"{model}.json"))
    ours = [each for each in known if each.variant == "default"]
    assert [each.bpw_requested for each in ours] == SIZES
    for point in ours:
        assert point.bpw_requested - 0.02 <= point.bpw <= point.bpw_requested
        comparison = compared(point, known)
        assert comparison is None or comparison.worst < 1


@pytest.mark.parametrize(("model", "limit"), [("quire-demo", 0.38), ("tinystories-656k", 0.5)])
def test_at_three_and_four_bits_ours_is_better_by_the_factor_aimed_at(model: str, limit: float) -> None:
    known = points(load(RESULTS / f"{model}.json"))
    for point in known:
        if point.variant == "default" and point.bpw_requested in (3.0, 4.0):
            comparison = compared(point, known)
            assert comparison is not None
            assert comparison.ratio <= limit


@pytest.mark.parametrize("model", ["tinystories-656k", "stories260k"])
def test_the_yardstick_is_near_the_original_converter(model: str) -> None:
    original = {each["bpw_requested"]: each for each in json.loads((RESULTS / "converter.json").read_text())[model]}
    yardstick = [each for each in points(load(RESULTS / f"{model}.json")) if each.variant == YARDSTICK]
    assert yardstick
    for point in yardstick:
        known = original[point.bpw_requested]
        assert point.bpw <= point.bpw_requested
        assert point.kl == pytest.approx(known["kl"], rel=0.1)
        cells = [model, f"{point.bpw_requested:.1f}", f"{known['bpw']:.3f}", f"{known['kl']:.3g}"]
        cells += [f"{point.bpw:.3f}", f"{point.kl:.3g}", f"{point.kl / known['kl'] - 1:+.0%}".replace("%", " %")]
        assert f"| {' | '.join(cells)} |" in PAGE


@pytest.mark.parametrize(
    ("model", "key", "label"),
    [
        ("tinystories-656k", "llama_cpp_kl", "tinystories-656k, by llama.cpp"),
        ("tinystories-656k", "kl", "tinystories-656k, rounded here"),
        ("stories260k-pad192", "llama_cpp_kl", "stories260k (192), by llama.cpp"),
        ("stories260k-pad192", "kl", "stories260k (192), rounded here"),
        ("quire-demo", "llama_cpp_kl", "demo model, earlier state, by llama.cpp"),
        ("quire-demo", "kl", "demo model, as it is, rounded here"),
    ],
)
def test_the_page_says_what_plain_rounding_costs(model: str, key: str, label: str) -> None:
    rows = [each for each in json.loads((RESULTS / "rounding.json").read_text())["rows"] if each["model"] == model]
    assert [each["rounding"] for each in rows] == ["Q8_0", "Q5_0", "Q4_0"]
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {label} |"))
    cells = [float(cell) for cell in line.split("|")[2:5]]
    assert cells == pytest.approx([each[key] for each in rows], abs=6e-5)
