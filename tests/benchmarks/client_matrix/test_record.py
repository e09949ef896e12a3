"""Results that are kept, and made new one by one."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.client_matrix.clients import CLIENTS
from benchmarks.client_matrix.environments import version_of
from benchmarks.client_matrix.record import load, merged, save
from benchmarks.client_matrix.results import Check, ClientResult, Outcome

PASSED, FAILED = Check("plain", "chat", Outcome.PASSED), Check("plain", "chat", Outcome.FAILED, "no")


def result(index: int, check: Check, trouble: str = "") -> ClientResult:
    return ClientResult(CLIENTS[index], version_of(CLIENTS[index]), (check,), trouble)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    assert load(file) == []
    save(file, [result(0, FAILED), result(3, PASSED)])
    assert load(file) == [result(0, FAILED), result(3, PASSED)]


def test_results_of_other_versions_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    save(file, [result(0, PASSED), result(1, PASSED)])
    kept = json.loads(file.read_text())
    kept[CLIENTS[0].key]["version"] = "0.0.1"
    file.write_text(json.dumps(kept))
    assert load(file) == [result(1, PASSED)]


def test_new_results_take_the_place_of_old_ones_unless_nothing_was_tried() -> None:
    old = [result(0, FAILED), result(2, PASSED)]
    new = [result(1, PASSED), result(0, PASSED), result(2, FAILED, "not installed: no network")]
    assert merged(old, new) == [result(0, PASSED), result(1, PASSED), result(2, PASSED)]
