"""`quire serve` with an engine process of one's choice: `python -m benchmarks.serve_with JSON`.

The JSON holds settings by the names `server` and `engine`, by `module` what the engine process runs, and by `step_ms`
how long the steps of a scripted one sleep.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from unittest import mock

from benchmarks.scripted_engine import STEP_MS
from engine.config import EngineConfig
from engine.supervisor import SupervisedEngine
from server.config import ServerConfig
from server.main import run
from server.models.catalogue import only

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    os.environ[STEP_MS] = str(given["step_ms"])
    start = functools.partial(SupervisedEngine.start, module=given["module"])
    with mock.patch.object(SupervisedEngine, "start", start):
        sys.exit(run(ServerConfig(**given["server"]), only(EngineConfig(**given["engine"]))))
