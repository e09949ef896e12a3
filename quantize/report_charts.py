"""Charts of a quantization report as inline SVG, drawn by hand so that a page needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

CELL_WIDTH, CELL_HEIGHT, LABEL = 22, 20, 84
WIDEST = 940
PALETTE = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5")

Grid = Mapping[str, Mapping[int, float]]
"""A value for each module and layer."""


def heat_map(grid: Grid, unit: str) -> str:
    """Modules down, layers across; the darker the more."""
    layers = sorted({layer for row in grid.values() for layer in row})
    values = [value for row in grid.values() for value in row.values()]
    least, most = min(values), max(values)
    width = max(4.0, min(CELL_WIDTH, (WIDEST - LABEL) / max(1, len(layers))))
    parts = []
    for line, (module, row) in enumerate(grid.items()):
        y = line * CELL_HEIGHT
        parts.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(module)}</text>')
        for position, layer in enumerate(layers):
            if layer in row:
                share = (row[layer] - least) / (most - least) if most > least else 0.5
                x, title = LABEL + position * width, f"layer {layer}, {module}: {row[layer]:.4g} {unit}"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width - 1:.1f}" height="{CELL_HEIGHT - 1}" rx="2" class="heat" '
                    f'style="--share:{share:.3f}"><title>{escape(title)}</title></rect>'
                )
    bottom = len(grid) * CELL_HEIGHT
    every = max(1, round(36 / width))
    for position, layer in enumerate(layers):
        if position % every == 0:
            x = LABEL + (position + 0.5) * width
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{layer}</text>')
    scale = f"{least:.3g} to {most:.3g} {unit}"
    parts.append(f'<text x="{LABEL}" y="{bottom + 32}" class="muted">layer; {escape(scale)}</text>')
    return _svg(LABEL + len(layers) * width + 4, bottom + 38, parts)


def lines(grid: Grid, unit: str) -> str:
    """A line for each module over the layers."""
    layers = sorted({layer for row in grid.values() for layer in row})
    top = max(max(row.values()) for row in grid.values()) * 1.05 or 1.0
    height, width = 220.0, float(WIDEST - LABEL - 130)
    step = width / max(1, len(layers) - 1)
    parts = []
    for tick in range(5):
        y, value = height - tick / 4 * height + 8, top * tick / 4
        parts.append(f'<line x1="{LABEL}" x2="{LABEL + width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LABEL - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for number, (module, row) in enumerate(grid.items()):
        colour = PALETTE[number % len(PALETTE)]
        points = [
            (LABEL + position * step, 8 + height - row[layer] / top * height)
            for position, layer in enumerate(layers)
            if layer in row
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"/>' for x, y in points]
        y = 20 + number * 18
        parts.append(f'<rect x="{LABEL + width + 20}" y="{y - 9}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{LABEL + width + 38}" y="{y + 1}">{escape(module)}</text>')
    for position, layer in enumerate(layers):
        if position % max(1, len(layers) // 16) == 0:
            x = LABEL + position * step
            parts.append(f'<text x="{x:.1f}" y="{height + 24}" text-anchor="middle">{layer}</text>')
    parts.append(f'<text x="{LABEL}" y="{height + 42}" class="muted">layer; {escape(unit)}</text>')
    return _svg(WIDEST, height + 48, parts)


def bar(shares: Sequence[tuple[str, float]]) -> str:
    """One bar, cut into labelled shares that add up to 1."""
    parts, x = [], 0.0
    for number, (label, share) in enumerate(shares):
        width, colour = share * WIDEST, PALETTE[number % len(PALETTE)]
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{max(width - 1, 0.5):.1f}" height="30" fill="{colour}">'
            f"<title>{escape(label)}: {share:.1%}</title></rect>"
        )
        if width > 50:
            parts.append(f'<text x="{x + 6:.1f}" y="20" class="inside">{escape(label)}</text>')
            parts.append(f'<text x="{x + 6:.1f}" y="46" class="muted">{share:.1%}</text>')
        x += width
    return _svg(WIDEST, 52, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    content = "".join(parts)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img">{content}</svg>'
