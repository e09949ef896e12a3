"""Where the outcomes of a run on a GPU are kept: JSON, and a table for people, written anew after every stage."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.stages import Outcome
from benchmarks.machine import machine


class Results:
    """The results of a day on a device. Stages that an earlier run of the day has left stay until they are run again.

    Args:
        folder: where the files are.
        device: as the card is named.
        driver: its version.
    """

    def __init__(self, folder: Path, device: str, driver: str) -> None:
        self._date = datetime.datetime.now(datetime.UTC).date().isoformat()
        name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        self._file = folder / f"gpu-{self._date}-{name}.json"
        self._device, self._driver = device, driver
        self._outcomes: dict[str, Outcome] = {}
        if self._file.is_file():
            for each in json.loads(self._file.read_text())["stages"]:
                self._outcomes[each["stage"]] = Outcome(**each)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, in the files too."""
        self._outcomes[outcome.stage] = outcome
        content = {
            "date": self._date,
            "device": self._device,
            "driver": self._driver,
            "machine": machine(),
            "stages": [asdict(each) for each in self._outcomes.values()],
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        self._file.with_suffix(".md").write_text(self.table())

    def table(self) -> str:
        """As Markdown."""
        return table(self._device, list(self._outcomes.values()))


def table(device: str, outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown: stages, figures that have a target, all other figures."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    lines = [f"# CUDA kernels on {device}", "", "| stage | | seconds |", "|---|---|--:|"]
    lines += [f"| {each.stage} | {each.verdict} | {each.seconds} |" for each in outcomes]
    lines += ["", "| target | measured | unit | wanted | |", "|---|--:|---|--:|---|"]
    for row in rows:
        if row.get("target") is not None:
            wanted = f"{'≥' if row.get('at_least') else '≤'} {row['target']:g}"
            lines.append(f"{_measured(row)} {wanted} | {'met' if row.get('met') else 'MISSED'} |")
    lines += ["", "| what | measured | unit |", "|---|--:|---|"]
    lines += [_measured(row) for row in rows if row.get("target") is None]
    return "\n".join(lines) + "\n"


def _measured(row: Mapping[str, object]) -> str:
    return f"| {row['name']} | {row['value']:.4g} | {row['unit']} |"
