"""Checks in a process of their own.

A broken torch or native library does not always raise: it may end the process with an illegal instruction, or hang. The
doctor must live to tell, so whatever loads such code runs in a child (`quire/doctor/probe.py`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from quire.doctor.finding import Finding, problem

TIMEOUT = 120.0
"""Seconds a check may take; importing torch from a cold disk takes several."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from quire.doctor.probe import main; main(sys.argv[2:])"
)


def run_isolated(
    probe: str, subject: str, advice: str, arguments: Sequence[str] = (), timeout: float = TIMEOUT
) -> Iterator[Finding]:
    """The findings of a probe, and one more if it breaks off.

    Args:
        probe: its name in `quire.doctor.probe.PROBES`.
        subject: what it looks at, should it not live to say so.
        advice: what to do if it breaks off.
        arguments: handed to the probe.
        timeout: seconds it may take.
    """
    command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), probe, *arguments]
    try:
        child = subprocess.run(command, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as late:
        yield from _findings(late.stdout or b"")
        yield problem(subject, f"the check did not end within {timeout:.0f} seconds", advice)
        return
    except OSError as failure:
        yield problem(subject, f"no process could be started to check it: {failure}", "Free memory and processes.")
        return
    yield from _findings(child.stdout)
    if child.returncode:
        yield problem(subject, f"the check broke off: {_reason(child.returncode, child.stderr)}", advice)


def _findings(output: bytes) -> Iterator[Finding]:
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):  # a process that is killed may leave half a line
            yield Finding(**json.loads(line))


def _reason(status: int, errors: bytes) -> str:
    """Why a process ended: the signal, or the last line it complained with."""
    if status < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"it was ended by {names.get(-status, f'signal {-status}')}"
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {status}"
