"""The CPU image for real, without Docker: buildah builds docker/Dockerfile.cpu on a fresh Debian, and the server runs
in it as the image says, on a read-only root file system, as process 1.

Runs where TEST_IMAGE=1 asks for it, since it changes a machine's mounts and fetches a Debian: needs root, buildah,
unshare and debootstrap, and takes minutes. Two variables help on machines with mirrors: TEST_DEBIAN_ROOT names a
directory with a Debian to use instead of a fresh one, TEST_BUILDAH_ARGS has further arguments for `buildah build`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docker.mounts import unmount_below

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "unshare", "git")
MIRROR = "http://deb.debian.org/debian"
START = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755,uid=10001,gid=10001 tmpfs "$root/var/cache/quire"
mount --bind /dev "$root/dev"
exec chroot --userspec=10001:10001 "$root" /usr/bin/env -i "$@"
"""
"""What `docker run --read-only --tmpfs /tmp` does, with the mounts of a namespace of its own."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Image:
    """A built image, mounted.

    Args:
        root: its root file system.
        config: its configuration.
    """

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.config = config
        self._root = root

    def command(self, *words: str, **environment: str) -> list[str]:
        """A command line that runs `quire` with these words as the image would."""
        settings = [*self.config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return [*namespaces, "sh", "-c", START, "sh", str(self._root), *settings, *self.config["Entrypoint"], *words]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if os.environ.get("TEST_IMAGE") != "1":
        pytest.skip("builds an image only where TEST_IMAGE=1 asks for it")
    debian = os.environ.get("TEST_DEBIAN_ROOT")
    missing = [tool for tool in (*TOOLS, *([] if debian else ["debootstrap"])) if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing or TOOLS)}")
    folder = tmp_path_factory.mktemp("image")
    with buildah_in(folder) as buildah:
        yield build(buildah, folder, debian)


@contextmanager
def buildah_in(folder: Path) -> Iterator[list[str]]:
    """A buildah that keeps everything in a folder, where nothing is mounted afterwards, a failed build or not."""
    buildah = ["buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    try:
        yield buildah
    finally:
        subprocess.run([*buildah, "rm", "--all"], capture_output=True, check=False)
        unmount_below(folder)


def build(buildah: list[str], folder: Path, debian: str | None) -> Image:
    """Build the image on a Debian, a fresh one if none is named, and mount it."""
    policy = folder / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    if debian is None:
        debian = str(folder / "debian")
        check("debootstrap", "--variant=minbase", "bookworm", debian, MIRROR)
    base = check(*buildah, "from", f"--signature-policy={policy}", "scratch")
    check(*buildah, "add", "--quiet", base, debian, "/")
    check(*buildah, "commit", "--quiet", "--rm", f"--signature-policy={policy}", base, "localhost/debian")
    check("git", "clone", "--quiet", str(ROOT), str(folder / "source"))
    options = ["--isolation=chroot", "--network=host", "--format=docker", "--layers", "--pull-never"]
    options += [f"--signature-policy={policy}", "--build-arg=BASE=localhost/debian", "--tag=quire:cpu"]
    options += shlex.split(os.environ.get("TEST_BUILDAH_ARGS", ""))
    source = folder / "source"
    check(*buildah, "build", *options, f"--file={source / 'docker/Dockerfile.cpu'}", str(source))
    config = json.loads(check(*buildah, "inspect", "--type=image", "quire:cpu"))["Docker"]["config"]
    container = check(*buildah, "from", "--pull-never", f"--signature-policy={policy}", "quire:cpu")
    return Image(Path(check(*buildah, "mount", container)), config)


def check(*command: str) -> str:
    """Run a command that must work; gives what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout.strip()


@contextmanager
def serving(image: Image) -> Iterator[tuple[str, Callable[[], int]]]:
    """A server in the image: its URL, and a function that sends SIGTERM to process 1 and gives the exit status."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = image.command(*image.config["Cmd"], QUIRE_API_KEY="a-key", QUIRE_PORT=str(port))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def end() -> int:
        (first,) = check("pgrep", "--parent", str(process.pid)).split()
        os.kill(int(first), signal.SIGTERM)
        return process.wait(60)

    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", process)
        yield url, end
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not start")


def ask(url: str, **body: object) -> Any:
    headers = {"Authorization": "Bearer a-key", "Content-Type": "application/json"}
    data = json.dumps({"model": "quire-demo", **body}).encode()
    return urllib.request.urlopen(urllib.request.Request(f"{url}/v1/completions", data, headers))


def test_the_image_says_who_runs_what(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["Entrypoint"] == ["quire"]
    assert image.config["Healthcheck"]["Test"][0] == "CMD"


def test_without_a_key_it_does_not_start(image: Image) -> None:
    result = subprocess.run(image.command("serve"), capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "QUIRE_API_KEY" in result.stderr


def test_it_answers_with_the_native_kernels_and_needs_the_key(image: Image) -> None:
    with serving(image) as (url, end):
        with ask(url, prompt="Once upon a time", max_tokens=5) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 5
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/metrics")
        assert end() == 0


def test_sigterm_lets_running_answers_end(image: Image) -> None:
    with serving(image) as (url, end):
        with ask(url, prompt="Once", max_tokens=1000, ignore_eos=True, stream=True) as answer:
            answer.readline()
            status = end()
            rest = answer.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert status == 0


def test_the_doctor_finds_the_image_sound(image: Image) -> None:
    result = subprocess.run(
        image.command("doctor", "--json", "--port", "0", QUIRE_API_KEY="a-key"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    levels = {each["subject"]: each["level"] for each in json.loads(result.stdout)["findings"]}
    assert levels["kernel self-test"] == "ok"
    assert levels["packages"] == "ok"
    assert levels["hub cache"] in ("ok", "warning")  # a small disk is one
