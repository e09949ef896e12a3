"""The results that the page is made of, kept so that one client can be tried again without the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.client_matrix.clients import CLIENTS
from benchmarks.client_matrix.environments import version_of
from benchmarks.client_matrix.results import Check, ClientResult, Outcome


def load(file: Path) -> list[ClientResult]:
    """The results in a file that are of the pinned versions, in the order of the table; none if there is no file."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    results = []
    for client in CLIENTS:
        if client.key in kept and kept[client.key]["version"] == version_of(client):
            checks = tuple(
                Check(**{**check, "outcome": Outcome(check["outcome"])}) for check in kept[client.key]["checks"]
            )
            results.append(ClientResult(client, kept[client.key]["version"], checks))
    return results


def merged(old: Iterable[ClientResult], new: Iterable[ClientResult]) -> list[ClientResult]:
    """The results of all, the new ones where there are any, in the order of the table."""
    by_key = {result.client.key: result for result in (*old, *new) if not result.trouble}
    return [by_key[client.key] for client in CLIENTS if client.key in by_key]


def save(file: Path, results: Iterable[ClientResult]) -> None:
    """Write results to a file."""
    kept = {
        result.client.key: {"version": result.version, "checks": [asdict(check) for check in result.checks]}
        for result in results
    }
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
