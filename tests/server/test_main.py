"""Start and end of `quire serve`, in a process of its own, with the scripted engine in place of the real one."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from engine.config import EngineConfig
from engine.errors import ConfigError
from server import main
from server.config import ServerConfig
from server.main import bind, run
from server.models.catalogue import Catalogue, only
from tests.fakes.http import events
from tests.fakes.text import write_model_text

PATIENCE = 300.0

SCRIPT = """
import asyncio, sys, time
import server.main
from engine.config import EngineConfig
from server.config import ServerConfig
from server.models.catalogue import only
from tests.fakes.engine import FakeEngine, script

def endless(*_):
    print("asked", flush=True)
    return script("a b", finish=None)

class Fake(FakeEngine):
    @classmethod
    async def start(cls, config, *, on_progress, when_checked, room_to_come):
        print("loading", flush=True)
        if sys.argv[2] == "slow":
            await asyncio.sleep(600)
        return cls(delay=0.2) if sys.argv[2] == "quick" else cls(endless)

    async def close(self):
        await super().close()
        print("engine closed", flush=True)

server.main.SupervisedEngine = Fake
config = EngineConfig(model=sys.argv[1], name="fake-model")
settings = {"shutdown_timeout": float(sys.argv[3]), "keep_alive_timeout": int(sys.argv[4])}
status = server.main.run(ServerConfig(port=0, **settings), only(config))
print("run returned", flush=True)
if sys.argv[2] == "lingers":
    time.sleep(1)
sys.exit(status)
"""


@contextmanager
def process(
    directory: Path, mode: str, shutdown_timeout: float = PATIENCE, keep_alive_timeout: int = 75
) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).resolve().parents[2]
    arguments = [str(write_model_text(directory)), mode, str(shutdown_timeout), str(keep_alive_timeout)]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def url_of(running: subprocess.Popen[str]) -> str:
    """The URL in the banner; returns once the curl line has been printed too."""
    assert running.stdout is not None
    url = ""
    for line in running.stdout:
        if line.strip().startswith("URL"):
            url = line.split()[1]
        if "curl" in line:
            return url
    raise AssertionError(running.stderr and running.stderr.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_ends_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path, "quick") as running:
        url = url_of(running)
        assert httpx.get(f"{url}/models", timeout=PATIENCE).json()["data"][0]["id"] == "fake-model"
        body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
        with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=PATIENCE) as response:
            lines = response.iter_lines()
            next(lines)
            running.send_signal(number)
            # an answer that has begun is finished
            assert "data: [DONE]" in list(lines)
        assert running.wait(timeout=PATIENCE) == 0
        assert running.stdout is not None
        assert "engine closed" in running.stdout.read()
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


def test_an_idle_connection_is_kept_as_long_as_configured(tmp_path: Path) -> None:
    with process(tmp_path, "quick", keep_alive_timeout=1) as running:
        url = httpx.URL(url_of(running))
        with socket.create_connection((url.host, url.port or 0), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            started = time.monotonic()
            received = b"".join(iter(lambda: connection.recv(4096), b""))
            assert received.startswith(b"HTTP/1.1 200")
            # longer would be the server's default; how much longer than a second hangs on the machine
            assert time.monotonic() - started < 20
    # the clients that most people use, OpenAI's among them, keep theirs for 5 seconds, load balancers for 60
    assert ServerConfig().keep_alive_timeout > 60


@pytest.mark.parametrize("stream", [True, False])
def test_answers_that_do_not_end_are_ended_with_an_error(tmp_path: Path, stream: bool) -> None:
    with process(tmp_path, "endless", shutdown_timeout=0.3) as running:
        url = url_of(running)
        body = {"messages": [{"role": "user", "content": "Hi"}], "stream": stream}
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(httpx.post, f"{url}/chat/completions", json=body, timeout=PATIENCE)
            assert running.stdout is not None
            assert "asked\n" in iter(running.stdout.readline, "")
            running.send_signal(signal.SIGTERM)
            response = asking.result()
        error = events(response.text)[-1]["error"] if stream else response.json()["error"]
        assert (response.status_code, error["code"]) == (200 if stream else 503, "shutting_down")
        assert running.wait(timeout=PATIENCE) == 0
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_further_signal_changes_nothing_once_the_server_has_ended(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path, "lingers") as running:
        url_of(running)
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None
        assert "run returned\n" in iter(running.stdout.readline, "")
        running.send_signal(number)
        assert running.wait(timeout=PATIENCE) == 0
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ended_while_loading(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with process(tmp_path, "slow") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "loading\n"
        running.send_signal(number)
        assert running.wait(timeout=PATIENCE) == code
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


def test_an_occupied_port_is_named_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"{port}.*--port") as refused:
            run(ServerConfig(port=port), only(EngineConfig(model="/nowhere")))
        assert "\n" not in str(refused.value)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        bind("192.0.2.1", 8000)


def test_a_program_that_can_no_longer_serve_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(_server: object, sockets: list[socket.socket]) -> None:
        assert len(sockets) == 1
        await asyncio.sleep(0.01)
        raise RuntimeError("The listener is gone.")

    async def ends_by_itself(listener: socket.socket) -> bool:
        program = asyncio.create_task(main._serve(ServerConfig(port=0), Catalogue(()), listener))
        ended, _ = await asyncio.wait({program}, timeout=PATIENCE)
        program.cancel()
        with pytest.raises(RuntimeError, match="listener is gone"):
            await program
        return bool(ended)

    monkeypatch.setattr(main._Server, "serve", serve)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    with bind("127.0.0.1", 0) as listener:
        assert asyncio.run(ends_by_itself(listener))
