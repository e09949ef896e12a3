"""What a soak run shows: a verdict for people, the same as JSON, and the plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.soak.curves import Curves, curves
from benchmarks.soak.plot import Line, Panel, Plot, svg
from benchmarks.soak.record import Record
from benchmarks.soak.run import SERVER_SETTINGS, Plan
from benchmarks.soak.verdict import Demand, percentile

SHOWN = 10
"""Most wrong things that are printed in full."""


def verdict_text(record: Record, demands: Sequence[Demand]) -> str:
    """The verdict, line by line."""
    lines = [f"{count:8,d}  {name}" for name, count in sorted(record.outcomes.items())]
    lines += [f"{count:8,d}  compared: {kind}" for kind, count in sorted(record.answers.items())]
    for fault in record.faults:
        after = "never" if fault.healed is None else f"{fault.healed - fault.at:.1f} s"
        lines.append(f"  {fault.kind} at {fault.at:.0f} s: another engine serves after {after}")
    lines += [f"WRONG {each[:2000]}" for each in record.wrong[:SHOWN]]
    lines += [f"{'pass' if each.met else 'FAIL'}  {each.name}: {each.measured}" for each in demands]
    return "\n".join(lines)


def write(folder: Path, record: Record, plan: Plan, demands: Sequence[Demand]) -> tuple[Path, Path]:
    """Write `soak-DATE.json` and `soak-DATE.svg` into a folder; gives their paths."""
    now = datetime.now(UTC)
    shown = curves(record)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"soak-{now:%Y-%m-%d}"
    figures, drawing = stem.with_suffix(".json"), stem.with_suffix(".svg")
    figures.write_text(_compact(_document(record, plan, demands, shown, f"{now:%Y-%m-%d %H:%M} UTC")))
    drawing.write_text(svg(_plot(record, plan, shown, f"{now:%Y-%m-%d}")))
    return figures, drawing


def _document(record: Record, plan: Plan, demands: Sequence[Demand], shown: Curves, date: str) -> dict[str, Any]:
    gaps = [gap for _, gap in record.gaps]
    last = record.samples[-1]
    return {
        "date": date,
        "machine": machine(),
        "server": "quire serve " + " ".join(SERVER_SETTINGS),
        "plan": asdict(plan),
        "passed": all(demand.met for demand in demands),
        "demands": [asdict(demand) for demand in demands],
        "outcomes": dict(sorted(record.outcomes.items())),
        "compared_answers": dict(sorted(record.answers.items())),
        "wrong": record.wrong[:100],
        "generated_tokens": last.generated,
        "preemptions": last.preemptions,
        "gap_ms": {f"p{100 * share:g}": round(percentile(gaps, share) * 1e3, 2) for share in (0.5, 0.9, 0.99, 0.999)},
        "faults": [asdict(fault) for fault in record.faults],
        "curves": asdict(shown),
    }


def _compact(document: dict[str, Any]) -> str:
    """JSON with one line per entry, and per curve."""
    curve_lines = ",\n".join(f'    "{name}": {json.dumps(values)}' for name, values in document["curves"].items())
    head = json.dumps({key: value for key, value in document.items() if key != "curves"}, indent=2)
    return head.removesuffix("\n}") + ',\n  "curves": {\n' + curve_lines + "\n  }\n}\n"


def _plot(record: Record, plan: Plan, shown: Curves, date: str) -> Plot:
    described = machine()
    subtitle = (
        f"{date}, {described['cpu']}, {described['cores']} cores: {sum(record.answers.values()):,} answers compared, "
        f"{len(record.wrong)} wrong; {plan.clients} clients, bursts of {plan.burst_size}"
    )
    return Plot(
        title=f"Quire under mixed load: {plan.seconds / 60:g} min, {len(record.faults)} engine faults",
        subtitle=subtitle,
        seconds=shown.seconds,
        panels=[
            Panel("Memory (anonymous), MiB", [Line("server", shown.server_mib), Line("engine", shown.engine_mib)]),
            Panel("Open descriptors", [Line("server", shown.server_files), Line("engine", shown.engine_files)]),
            Panel("Generated, tokens per second", [Line("all streams", shown.tokens_per_second)]),
            Panel(
                "Gap between tokens of a stream, ms", [Line("median", shown.gap_p50_ms), Line("p99", shown.gap_p99_ms)]
            ),
            Panel("Sequences", [Line("running", shown.running), Line("waiting", shown.waiting)]),
            Panel("KV cache in use, share", [Line("blocks", shown.cache_used)]),
        ],
        faults=[(fault.at, fault.kind) for fault in record.faults],
    )
