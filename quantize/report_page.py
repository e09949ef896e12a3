"""The report of a job as a page of its own, with charts and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from quantize.matrix_report import MatrixReport
from quantize.report import QuantizeReport
from quantize.report_charts import bar, heat_map, lines

STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #66727f; --paper: #fff; --card: #f4f6f8; --line: #dfe4e9;
        --heat: 37, 99, 170; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --soft: #98a3ae; --paper: #14181d; --card: #1e242b; --line: #323a43; --heat: 110, 170, 245; }
}
body { margin: 0 auto; padding: 32px 24px 64px; max-width: 980px; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 40px 0 10px; }
p { margin: 4px 0 12px; } .muted { color: var(--soft); fill: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 22px 0; }
.card { background: var(--card); border-radius: 10px; padding: 12px 16px; }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; } .card span { color: var(--soft); }
.warning { border-left: 4px solid #efb118; background: var(--card); padding: 8px 14px; margin: 8px 0; }
svg { max-width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--ink); }
svg text.muted { fill: var(--soft); } svg text.inside { fill: #fff; font-weight: 600; } .grid { stroke: var(--line); }
.heat { fill: rgba(var(--heat), calc(.1 + .9 * var(--share))); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
details { margin-top: 12px; } summary { cursor: pointer; }
"""


def report_page(report: QuantizeReport) -> str:
    """An HTML document that needs no other file."""
    decoder = [matrix for matrix in report.matrices[:-1] if _layer(matrix) is not None]
    title = f"{report.source} in {report.bpw:.2f} bits"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="muted">EXL2 quantization of {escape(report.source)} by Quire {report.versions["quire"]}</p>',
        _cards(report),
        *(f'<div class="warning">{escape(warning)}</div>' for warning in report.warnings),
        "<h2>Bits by layer</h2>",
        "<p>Stored bits per weight of every matrix, scales and permutations included.</p>",
        heat_map(_grid(decoder, lambda matrix: matrix.bits_per_weight), "bits per weight"),
        "<h2>Widths</h2>",
        "<p>The share of the decoder's weights that is stored with each width of codes.</p>",
        bar(_widths(decoder)),
        "<h2>Error by layer</h2>",
        "<p>Relative error of each matrix's output on the calibration text.</p>",
        lines(_grid(decoder, lambda matrix: matrix.error), "‖X(Ŵ − W)‖ / ‖XW‖"),
        "<h2>The model against its source</h2>",
        _check(report),
        "<h2>How it was made</h2>",
        _table(_facts(report)),
        _matrices(report),
    ]
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _cards(report: QuantizeReport) -> str:
    cards = [
        (f"{report.bpw:.3f}", f"bits per weight, of {report.bpw_requested:g} asked for"),
        (f"{report.head_bpw:.2f}", "bits per weight of the head"),
        (f"{report.weight_bytes / 2**20:.1f} MiB", "weights"),
    ]
    if report.check is not None:
        figures = report.check.figures
        cards.append((f"{figures.kl_mean:.4f}", "nats of KL divergence from the source"))
        cards.append((f"{figures.perplexity:.3f}", f"perplexity; source {figures.reference_perplexity:.3f}"))
        cards.append((f"{figures.top1_agreement:.1%}", "same likeliest token"))
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{a}</b><span>{b}</span></div>' for a, b in cards)
        + "</div>"
    )


def _check(report: QuantizeReport) -> str:
    check = report.check
    if check is None:
        return "<p>Not measured (check_rows was 0).</p>"
    figures = check.figures
    text = "text that was kept back from calibration" if check.held_out else "calibration text"
    error = "" if figures.kl_standard_error is None else f" ± {figures.kl_standard_error:.5f}"
    rows = [
        ("Measured on", f"{check.rows} rows of {check.length} tokens of {text}; the model as read back from its files"),
        ("Perplexity", f"{figures.perplexity:.4f} (source {figures.reference_perplexity:.4f})"),
        ("KL divergence, mean", f"{figures.kl_mean:.5f}{error} nats"),
        ("KL divergence, 99th percentile", f"{figures.kl_p99:.5f} nats"),
        ("Same likeliest token", f"{figures.top1_agreement:.2%}"),
        ("Expected by the plan", f"{report.damage:.5f}, in the unit of the measurement"),
    ]
    return _table(rows)


def _facts(report: QuantizeReport) -> list[tuple[str, str]]:
    calibration = report.calibration
    damped = [f"{each.name} ({each.damping_steps} steps)" for each in report.matrices if each.damping_steps > 1]
    return [
        ("Calibration", f"{calibration['rows']} rows of {calibration['length']} tokens, {calibration['dataset']}"),
        ("Recipe", f"{report.recipe}, seed {report.seed}, head {report.head_bits} bits"),
        ("Overrides", ", ".join(report.overrides) or "none"),
        ("Damped more than once", ", ".join(damped) or "none"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ("Time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())),
    ]


def _matrices(report: QuantizeReport) -> str:
    head = "<tr><th>matrix</th><th>inputs × outputs</th><th>bits</th><th>error</th><th>damping</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td><td>{each.in_features} × {each.out_features}</td>"
        f"<td>{each.bits_per_weight:.3f}</td><td>{each.error:.4f}</td><td>{each.damping_steps}</td></tr>"
        for each in report.matrices
    )
    return f"<details><summary>All {len(report.matrices)} matrices</summary><table>{head}{rows}</table></details>"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows) + "</table>"


def _grid(matrices: Sequence[MatrixReport], value: Callable[[MatrixReport], float]) -> dict[str, dict[int, float]]:
    grid: dict[str, dict[int, float]] = {}
    for matrix in matrices:
        layer = _layer(matrix)
        if layer is not None:
            grid.setdefault(matrix.name.rpartition(".")[2].removesuffix("_proj"), {})[layer] = value(matrix)
    return grid


def _layer(matrix: MatrixReport) -> int | None:
    """The number in its name."""
    return next((int(part) for part in matrix.name.split(".") if part.isdigit()), None)


def _widths(matrices: Sequence[MatrixReport]) -> list[tuple[str, float]]:
    weights: dict[int, int] = {}
    for matrix in matrices:
        for bits, rows in matrix.groups:
            weights[bits] = weights.get(bits, 0) + rows * matrix.out_features
    total = sum(weights.values())
    return [(f"{bits} bits", weights[bits] / total) for bits in sorted(weights)]
