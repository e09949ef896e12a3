"""`quire serve` around the toy engine, in a process of its own."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.server_process import ServerProcess
from engine.config import EngineConfig
from engine.supervisor import SupervisedEngine
from server import main
from server.config import ServerConfig
from server.models.catalogue import only
from tests.fakes.text import write_model_text


class ToyServer(ServerProcess):
    """A server of its own; a context manager.

    Args:
        directory: to hold the model's text files.
        behaviour: of the engine process, see `toy_process`.
        engine: further engine settings.
        server: further server settings.
    """

    def __init__(
        self,
        directory: Path,
        behaviour: str = "slow",
        engine: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
    ) -> None:
        sizes = {"block_size": 4, "kv_cache_tokens": 4096, "max_num_seqs": 64}
        settings = {
            "engine": {"model": str(write_model_text(directory)), "name": behaviour, **sizes, **(engine or {})},
            "server": {"port": 0, **(server or {})},
        }
        super().__init__(["tests.fakes.toy_server", json.dumps(settings)])


class _ToyEngine(SupervisedEngine):
    @classmethod
    async def start(
        cls, config: EngineConfig, *, module: str = "tests.fakes.toy_process", **options: Any
    ) -> SupervisedEngine:
        return await super().start(config, module=module, **options)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    given = json.loads(sys.argv[1])
    main.SupervisedEngine = _ToyEngine  # type: ignore[misc,attr-defined]
    server = ServerConfig(**given["server"])
    sys.exit(main.run(server, only(EngineConfig(**given["engine"]), server.served_model_name)))
