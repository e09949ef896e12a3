"""The child's side of `quire/doctor/isolated.py`: runs one probe and writes its findings, one JSON object per line."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Protocol

from quire.doctor.finding import Finding

PROBES = {
    "torch": "quire.doctor.torch_probe",
    "kernels": "quire.doctor.kernel_probe",
    "cuda": "quire.doctor.cuda_probe",
    "settings": "quire.doctor.settings_probe",
    "model": "quire.doctor.model_probe",
}
"""Module of each probe, imported only when it runs: one that cannot be imported must not hide the others' findings."""


class ProbeModule(Protocol):
    """What a probe's module has."""

    def check(self, arguments: Sequence[str], /) -> Iterator[Finding]:
        """Look, and say what was found."""
        ...


def main(arguments: Sequence[str]) -> None:
    """Run the probe that is named first, with the words behind it."""
    name, *rest = arguments
    # standard output is for findings alone: what libraries print goes to standard error
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module: ProbeModule = importlib.import_module(PROBES[name])
    for finding in module.check(rest):
        report.write(json.dumps(asdict(finding)) + "\n")
        report.flush()
