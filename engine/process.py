"""The engine process: `python -m engine.process FD LEVEL FORM`, started by `engine/async_engine.py`."""

from __future__ import annotations

import sys

from engine.build import build_engine
from engine.logs import LogSettings, configure_logging
from engine.step_loop import run_engine_process

if __name__ == "__main__":
    configure_logging(LogSettings(*sys.argv[2:]))
    run_engine_process(int(sys.argv[1]), build_engine)
