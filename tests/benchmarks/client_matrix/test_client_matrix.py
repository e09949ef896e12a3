"""The matrix of clients: what is pinned, what is published, and, slowly, what works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.client_matrix.clients import CAPABILITIES, CLIENTS, Client
from benchmarks.client_matrix.environments import version_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_every_client_has_checks_and_a_pinned_version(client: Client) -> None:
    assert client.checks.is_file()
    assert version_of(client)[0].isdigit()


def test_the_page_is_of_the_pinned_versions_and_has_no_failure() -> None:
    rows = [line for line in (ROOT / "docs" / "clients.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(CLIENTS)
    for client, row in zip(CLIENTS, rows, strict=True):
        name, version, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        assert name.startswith(f"`{client.package}`")
        assert version == version_of(client)
        assert len(cells) == len(CAPABILITIES)
        assert set(cells) <= {"pass", "n/a", "–"}
        assert "pass" in cells


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_client_works() -> None:
    command = [sys.executable, "-m", "benchmarks.client_matrix"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 2:
        missing = [line.strip() for line in done.stdout.splitlines() if "not installed" in line]
        pytest.skip(f"needs PyPI and npm: {missing}")
    assert done.returncode == 0, done.stdout + done.stderr
