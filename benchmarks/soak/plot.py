"""The curves of a soak run as one SVG, drawn by hand: panels under each other over a common axis of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL_HEIGHT, GAP = 860, 130, 44
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 112, 52
INK, FAINT, GRID, FAULT = "#1f2933", "#6b7785", "#e4e8ec", "#c0392b"
COLOURS = ("#1f6feb", "#d9730d")
TICKS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        values: one per moment; None interrupts it.
    """

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves of one unit.

    Attributes:
        title: what they are, with the unit.
        lines: at most as many as there are colours.
    """

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything to be drawn.

    Attributes:
        title: first line.
        subtitle: second line.
        seconds: the moments.
        panels: from top to bottom.
        faults: (moment, name) of each.
    """

    title: str
    subtitle: str
    seconds: Sequence[float]
    panels: Sequence[Panel]
    faults: Sequence[tuple[float, str]]


def nice_ticks(top: float) -> list[float]:
    """Round values from 0 to `top` or just above, a few of them."""
    rough = max(top, 1e-9) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [round(index * step, 10) for index in range(math.ceil(top / step - 1e-9) + 1)]


def svg(plot: Plot) -> str:
    """The drawing, which needs nothing beside itself."""
    height = TOP + len(plot.panels) * (PANEL_HEIGHT + GAP) - GAP + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 30, plot.title, size=17, weight=600),
        _text(LEFT, 50, plot.subtitle, colour=FAINT),
    ]
    end = max(plot.seconds, default=1.0)
    bottom = TOP + len(plot.panels) * (PANEL_HEIGHT + GAP) - GAP
    parts += _faults(plot, end, bottom)
    for index, panel in enumerate(plot.panels):
        parts += _panel(panel, plot.seconds, end, TOP + index * (PANEL_HEIGHT + GAP))
    parts += _time_axis(end, bottom)
    return "\n".join([*parts, "</svg>", ""])


def _x(second: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * second / end


def _panel(panel: Panel, seconds: Sequence[float], end: float, top: float) -> list[str]:
    peak = max((value for line in panel.lines for value in line.values if value is not None), default=1.0)
    ticks = nice_ticks(peak or 1.0)
    bottom = top + PANEL_HEIGHT

    def y(value: float) -> float:
        return bottom - PANEL_HEIGHT * value / ticks[-1]

    parts = [_text(LEFT, top - 10, panel.title, weight=600)]
    for tick in ticks:
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="{GRID if tick else FAINT}"/>')
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{tick:,.10g}", colour=FAINT, anchor="end"))
    place: float = WIDTH - RIGHT
    for line, colour in reversed(list(zip(panel.lines, COLOURS, strict=False))):
        parts.append(_text(place, top - 10, line.name, colour=colour, anchor="end", weight=600))
        place -= 7 * len(line.name) + 16
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        points = [
            None if value is None else (_x(at, end), y(value)) for at, value in zip(seconds, line.values, strict=True)
        ]
        parts.append(
            f'<path d="{_path(points)}" fill="none" stroke="{colour}" stroke-width="1.5" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
    return parts


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Path commands through the points, with the pen up where one is missing."""
    commands, drawing = [], False
    for point in points:
        if point is not None:
            commands.append(f"{'L' if drawing else 'M'}{point[0]:.1f} {point[1]:.1f}")
        drawing = point is not None
    return "".join(commands)


def _faults(plot: Plot, end: float, bottom: float) -> list[str]:
    """A broken line through all panels for each fault, and what they mean."""
    if not plot.faults:
        return []
    dashes = {name: ("5 3", "1 3")[index % 2] for index, name in enumerate(sorted({name for _, name in plot.faults}))}
    parts = [
        f'<path d="M{_x(at, end):.1f} {TOP}V{bottom}" stroke="{FAULT}" stroke-opacity="0.55" '
        f'stroke-dasharray="{dashes[name]}"/>'
        for at, name in plot.faults
    ]
    place = LEFT
    for name, dash in dashes.items():
        parts.append(f'<path d="M{place} 68h24" stroke="{FAULT}" stroke-dasharray="{dash}"/>')
        parts.append(_text(place + 30, 72, f"{name} of the engine", colour=FAULT))
        place += 190
    return parts


def _time_axis(end: float, bottom: float) -> list[str]:
    parts = []
    for tick in nice_ticks(end / 60):
        if tick * 60 <= end:
            place = _x(tick * 60, end)
            parts.append(f'<path d="M{place:.1f} {bottom}v5" stroke="{FAINT}"/>')
            parts.append(_text(place, bottom + 19, f"{tick:.10g}", colour=FAINT, anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 38, "minutes of the run", colour=FAINT, anchor="middle"))
    return parts


def _text(
    x: float, y: float, content: str, *, size: int = 12, colour: str = INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(content)}</text>'
    )
