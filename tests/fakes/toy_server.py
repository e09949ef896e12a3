"""`quire serve` around the toy engine, in a process of its own; and what tests do to it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from engine.config import EngineConfig
from engine.supervisor import SupervisedEngine
from server import main
from server.config import ServerConfig
from tests.fakes.text import write_model_text

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds; generous, since a deadline only keeps a failing test from running forever."""


class ToyServer:
    """A server of its own; a context manager.

    Args:
        directory: to hold the model's text files.
        behaviour: of the engine process, see `toy_process`.
        engine: further engine settings.
        server: further server settings.
        log: file for the error output, for a test that makes it long; otherwise `end` returns it.

    Attributes:
        process: the server.
        url: of its root, once it is ready.
    """

    def __init__(
        self,
        directory: Path,
        behaviour: str = "slow",
        engine: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        log: Path | None = None,
    ) -> None:
        sizes = {"block_size": 4, "kv_cache_tokens": 4096, "max_num_seqs": 64}
        settings = {
            "engine": {"model": str(write_model_text(directory)), "name": behaviour, **sizes, **(engine or {})},
            "server": {"port": 0, **(server or {})},
        }
        with log.open("w") if log is not None else contextlib.nullcontext(subprocess.PIPE) as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.toy_server", json.dumps(settings)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.url = ""

    def __enter__(self) -> ToyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def ready(self) -> ToyServer:
        """Wait for the banner."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().startswith("URL"):
                self.url = line.split()[1].removesuffix("/v1")
            if "curl" in line:
                return self
        raise AssertionError(self.process.stderr and self.process.stderr.read())

    @property
    def child(self) -> int:
        """Process id of the engine."""
        (pid,) = (Path(f"/proc/{self.process.pid}/task") / str(self.process.pid) / "children").read_text().split()
        return int(pid)

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit code and what was said on the error output."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def complete(self, prompt: list[int], **fields: Any) -> httpx.Response:
        """POST /v1/completions with a fixed seed."""
        body = {"prompt": prompt, "seed": 7, "ignore_eos": True, **fields}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=PATIENCE)

    def status(self, path: str = "/health") -> int:
        """Status of a GET."""
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE).status_code

    def health(self) -> dict[str, Any]:
        """What /health says."""
        body: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=PATIENCE).json()
        return body

    def metric(self, name: str) -> float:
        """A metric, its labels summed up."""
        lines = httpx.get(f"{self.url}/metrics", timeout=PATIENCE).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"quire_{name}{{"))


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


class _ToyEngine(SupervisedEngine):
    @classmethod
    async def start(cls, config: EngineConfig, *, module: str = "tests.fakes.toy_process") -> SupervisedEngine:
        return await super().start(config, module=module)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    given = json.loads(sys.argv[1])
    main.SupervisedEngine = _ToyEngine  # type: ignore[misc]
    sys.exit(main.run(ServerConfig(**given["server"]), EngineConfig(**given["engine"])))
