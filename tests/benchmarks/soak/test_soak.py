"""A short soak run of the demo model. Times are not judged here, since the machine may be busy, nor is memory, which
has not come to rest in a minute."""

from __future__ import annotations

import pytest

from benchmarks.soak.run import Plan, run
from benchmarks.soak.verdict import demands


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_everything() -> None:
    record, code, log = run(Plan(seconds=60, burst_seconds=15, fault_seconds=13))
    assert not [demand for demand in demands(record) if not demand.met and not (demand.timed or demand.lasting)]
    assert {fault.kind for fault in record.faults} == {"SIGKILL", "SIGSTOP"}
    assert len(record.answers) == 9
    for what in ("broken off", "cancelled", "refused: 400", "never read", "failed with the engine"):
        assert [name for name in record.outcomes if name.startswith(what)], what
    assert code == 0
    assert "Traceback" not in log
