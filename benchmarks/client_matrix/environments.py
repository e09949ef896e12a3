"""The environments the clients run in: one for each Python package, one for all of npm's.

Everything comes from PyPI and npm, Node.js too, in the versions pinned in `requirements/clients/` and
`checks/node/package-lock.json`. What is installed is kept, and made again when its pins change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks.client_matrix.clients import CHECKS, REQUIREMENTS, Client, Language

NODE_CHECKS = CHECKS / "node"
TOOLS = REQUIREMENTS / "tools.txt"
INSTALL_SECONDS = 900


class InstallationError(Exception):
    """A client cannot be installed here."""


class Environments:
    """Installs clients below one folder.

    Args:
        folder: where; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def command(self, client: Client, junit: Path) -> list[str]:
        """What runs the checks of a client; its environment is made if need be.

        Args:
            client: which.
            junit: where the command is to write its results.

        Raises:
            InstallationError: the environment cannot be made.
        """
        if client.language is Language.NODE:
            report = ["--test-reporter=junit", f"--test-reporter-destination={junit}"]
            return [str(self._tool("node")), "--test", *report, str(self._npm() / client.checks.name)]
        options = ["-c", str(CHECKS / "pytest.ini"), "--rootdir", str(CHECKS), f"--junitxml={junit}"]
        return [str(self._python(client)), "-m", "pytest", *options, str(client.checks)]

    def _python(self, client: Client) -> Path:
        """The interpreter of a client's environment."""
        uv = self._tool("uv")
        folder = self._folder / client.key
        python = folder / "bin" / "python"
        if not _made_of(folder, client.requirements):
            shutil.rmtree(folder, ignore_errors=True)
            _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)])
            pins = ["--requirement", str(client.requirements)]
            # a pinned file is the whole of it; what it leaves out on purpose must not come back
            _run([str(uv), "pip", "install", "--quiet", "--no-deps", "--python", str(python), *pins])
            if client.borrows_torch:
                _look_in(folder, Path(sysconfig.get_path("purelib")))
            _note(folder, client.requirements)
        return python

    def _npm(self) -> Path:
        """A folder with the checks and their packages: a module is looked for in the folders above who imports it."""
        lock, folder = NODE_CHECKS / "package-lock.json", self._folder / "npm"
        shutil.copytree(NODE_CHECKS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        if not _made_of(folder, lock):
            npm = str(self._tool("npm"))
            _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder)])
            _note(folder, lock)
        return folder

    def _tool(self, name: str) -> Path:
        """A program of the environment that makes the others."""
        folder = self._folder / "tools"
        if not _made_of(folder, TOOLS):
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "install", "--requirement", str(TOOLS)])
            _note(folder, TOOLS)
        return folder / "bin" / name

    def variables(self) -> dict[str, str]:
        """Environment variables for what runs the checks: our Node.js first, and no key or address of the user's."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LITELLM_"))}
        return {**ours, "PATH": f"{self._folder / 'tools' / 'bin'}{os.pathsep}{ours.get('PATH', '')}"}


def version_of(client: Client) -> str:
    """The pinned version of a client.

    Raises:
        ValueError: it is not pinned.
    """
    text = client.requirements.read_text(encoding="utf-8")
    if client.language is Language.NODE:
        return str(json.loads(text)["packages"][f"node_modules/{client.package}"]["version"])
    found = re.search(rf"^{re.escape(client.package)}(?:\[.*\])?==(\S+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{client.requirements} does not pin {client.package}")
    return found.group(1)


def _look_in(folder: Path, packages: Path) -> None:
    """Let an environment find packages of another, those it lacks itself."""
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "zz_borrowed.pth").write_text(f"{packages}\n")


def _made_of(folder: Path, pins: Path) -> bool:
    note = folder / ".pins"
    return note.is_file() and note.read_text() == _digest(pins)


def _note(folder: Path, pins: Path) -> None:
    (folder / ".pins").write_text(_digest(pins))


def _digest(pins: Path) -> str:
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _run(command: Sequence[str]) -> None:
    environment = {**os.environ, "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment)
    except subprocess.CalledProcessError as error:
        raise InstallationError(f"{' '.join(command[:4])}: {error.stderr.strip()[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallationError(f"{' '.join(command[:4])}: {error}") from error
