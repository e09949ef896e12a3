"""Runs a stage of benchmarks/gpu on the emulated device, with as little to import as a machine with a GPU may have.

python -m tests.emulation.stage LIBRARY MODULE [ARGUMENT ...]
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

LACKING = (
    *("fastapi", "pydantic", "uvicorn", "httpx", "sse_starlette", "prometheus_client", "rich", "msgspec", "zmq"),
    *("llguidance", "jinja2", "huggingface_hub", "transformers", "pytest", "hypothesis", "jsonschema", "openai"),
)
"""Packages of the server, the text side and the tests, which such a machine need not have."""


def main() -> int:
    """The command; what the stage returns."""
    sys.modules.update(dict.fromkeys(LACKING))  # before anything of the project is imported
    library, module, *arguments = sys.argv[1:]
    program = importlib.import_module(module).PROGRAM
    card = importlib.import_module("tests.emulation.card")
    device = importlib.import_module("tests.emulation.device")
    runtime = device.EmulatedRuntime(Path(library))
    return int(program.main([*arguments, "--small"], lambda: card.EmulatedCard(runtime)))


if __name__ == "__main__":
    sys.exit(main())
