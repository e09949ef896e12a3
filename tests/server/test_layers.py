"""The server process never imports torch."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import pkgutil, importlib, sys
import server
for module in pkgutil.walk_packages(server.__path__, "server."):
    importlib.import_module(module.name)
heavy = {"torch", "transformers", "safetensors"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_no_module_of_the_server_imports_torch() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
