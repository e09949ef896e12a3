"""Facts about the image files that need no builder, and the health check."""

from __future__ import annotations

import fnmatch
import http.server
import importlib.util
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("Dockerfile", "Dockerfile.cpu")
each_image = pytest.mark.parametrize("name", IMAGES)


def text_of(name: str) -> str:
    return (ROOT / "docker" / name).read_text(encoding="utf-8")


def final_stage(name: str) -> str:
    return text_of(name).rpartition("\nFROM ")[2]


@each_image
def test_everything_stands_on_slim_debian(name: str) -> None:
    assert re.findall(r"^ARG BASE=(.*)$", text_of(name), re.MULTILINE) == ["debian:12-slim"]
    assert set(re.findall(r"^FROM (\S+)", text_of(name), re.MULTILINE)) == {"${BASE}"}


@each_image
def test_every_installation_is_pinned(name: str) -> None:
    logical = text_of(name).replace("\\\n", " ")
    installs = re.findall(r"pip (?:install|wheel) .*?(?=&&|$)", logical, re.MULTILINE)
    assert len(installs) >= 4
    for each in installs:
        assert "--constraint requirements/constraints.txt" in each or "--no-deps" in each


@each_image
def test_the_image_runs_as_nobody_special_and_gets_signals(name: str) -> None:
    stage = final_stage(name)
    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["quire"\]$', stage, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', stage, re.MULTILINE)
    assert "HEALTHCHECK" in stage
    assert "g++" not in stage


def test_the_images_differ_only_in_where_torch_comes_from_and_in_the_gpu() -> None:
    gpu, cpu = (set(text_of(name).partition("ARG BASE")[2].splitlines()) for name in IMAGES)
    assert all("TORCH" in line or "torch" in line or "on a CPU" in line or "QUIRE_HOST" in line for line in cpu - gpu)
    assert all("torch" in line or "GPU" in line or "NVIDIA" in line or "QUIRE_HOST" in line for line in gpu - cpu)


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file out: the last pattern that fits it, or a folder it is in, decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parts = path.split("/")
            leading = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
            if pattern.startswith("**/"):
                fits = any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
            else:
                fits = any(
                    each.count("/") == pattern.count("/") and fnmatch.fnmatchcase(each, pattern) for each in leading
                )
            if fits:
                verdict = not line.startswith("!")
    return verdict


def test_the_build_gets_what_the_wheel_is_made_of() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = setuptools["packages"]["find"]["include"]
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs the git checkout")
    wanted = [
        path
        for path in listed.stdout.splitlines()
        if path.split("/")[0] + "*" in packages and not path.startswith("demo/") and not path.startswith("cuda_ext/")
    ]
    assert wanted
    assert not [
        path for path in (*wanted, "setup.py", "pyproject.toml", "demo/quire-demo/config.json") if ignored(path)
    ]


@pytest.mark.parametrize(
    "path", [".git/config", ".env", ".venv/bin/python", "models/a/config.json", "tests/conftest.py", "engine/a.so",
             "cpu_ext/lib/libquire_cpu.so", "engine/__pycache__/core.pyc", "docker-compose.yml"],
)  # fmt: skip
def test_nothing_private_or_built_gets_into_the_build(path: str) -> None:
    assert ignored(path)


def healthcheck() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthcheck", ROOT / "docker/healthcheck.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def server(status: int) -> Iterator[int]:
    """Answers everything with a status; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener.server_port
        listener.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, 0), (503, 1), (404, 1)])
def test_healthcheck_follows_the_status(status: int, healthy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with server(status) as port:
        monkeypatch.setenv("QUIRE_PORT", str(port))
        assert healthcheck().main() == healthy


def test_healthcheck_fails_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as port:
        pass
    monkeypatch.setenv("QUIRE_PORT", str(port))
    assert healthcheck().main() == 1
