"""Runs the checks of one client after the other against servers with the demo model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.client_matrix.clients import Client
from benchmarks.client_matrix.environments import Environments, InstallationError, version_of
from benchmarks.client_matrix.results import ClientResult, Outcome, read_junit
from benchmarks.server_process import DemoServer

KEY = "key-of-the-client-matrix"
CHECK_SECONDS = 1200


def run_all(clients: Sequence[Client], environments: Environments) -> Iterator[ClientResult]:
    """The result of each client; they come one after the other, so that each is alone with the server."""
    for options, those in groupby(clients, key=lambda client: client.serving):
        with (
            DemoServer("--api-key", KEY, *options) as server,
            tempfile.TemporaryDirectory(prefix="quire-clients-") as folder,
        ):
            root = server.ready().url
            for client in those:
                yield _run(client, environments, root, Path(folder) / f"{client.key}.xml")


def _run(client: Client, environments: Environments, root: str, junit: Path) -> ClientResult:
    version = version_of(client)
    try:
        command = environments.command(client, junit)
    except InstallationError as error:
        return ClientResult(client, version, (), f"not installed: {error}", not_installed=True)
    variables = {
        **environments.variables(),
        "QUIRE_URL": root,
        "QUIRE_KEY": KEY,
        "QUIRE_MODEL": "quire-demo",
        "QUIRE_PYTHON": sys.executable,
    }
    log = junit.with_suffix(".log")
    with log.open("w", encoding="utf-8") as output:
        try:
            done = subprocess.run(command, stdout=output, stderr=output, env=variables, timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            return ClientResult(client, version, (), f"not done after {CHECK_SECONDS} seconds")
    checks = read_junit(junit) if junit.is_file() else ()
    if not checks or (done.returncode != 0 and all(check.outcome is not Outcome.FAILED for check in checks)):
        return ClientResult(client, version, checks, f"ended with {done.returncode}: {log.read_text()[-2000:]}")
    return ClientResult(client, version, checks)
