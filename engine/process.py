"""The engine process: `python -m engine.process FD`, started by `engine/async_engine.py`."""

from __future__ import annotations

import logging
import sys

from engine.build import build_engine
from engine.step_loop import run_engine_process

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    run_engine_process(int(sys.argv[1]), build_engine)
