"""An engine process around the toy engine: `python -m tests.fakes.toy_process FD LEVEL FORM`.

The config's `name`, or else its `model`, says how it behaves: `toy`; `fails` (a load error, found by the checks);
`broken` (one found later); `crashes` (an unexpected one); `slow` (10 ms per step); `stubborn` (does not end when told
to); `hangs` (while loading); `once FILE` (loads if there is no such file, and makes it); `late` or `late SECONDS`
(takes a second to load, or as many, in steps it tells of); `stuck` (a step with the prompt [99] never ends); `faulty`
(a step with the prompt [98] fails); `lost` (the device is, with the prompt [99]).
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from engine.config import EngineConfig
from engine.core import EngineCore
from engine.errors import CheckpointError, DeviceError
from engine.load_report import LoadReport
from engine.logs import LogSettings, configure_logging
from engine.scheduling.batch import ScheduledBatch
from engine.step_loop import run_engine_process
from engine.types import ModelInfo
from tests.fakes.runner import ToyRunner, ToyStep
from tests.fakes.toy_engine import VOCAB_SIZE, toy_engine


class SlowRunner(ToyRunner):
    """Takes its time over every step."""

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        time.sleep(0.01)
        return super().submit(batch)


class StuckRunner(SlowRunner):
    """Has a prompt that it does not get over."""

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        if any(item.sequence.request.prompt_token_ids == (99,) for item in batch.items):
            time.sleep(600)
        return super().submit(batch)


class LostRunner(SlowRunner):
    """Has a prompt that costs it the device."""

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        if any(item.sequence.request.prompt_token_ids == (99,) for item in batch.items):
            raise DeviceError("The device failed: CUDA error: an illegal memory access was encountered.")
        return super().submit(batch)


RUNNERS = {"slow": SlowRunner, "stuck": StuckRunner, "lost": LostRunner}


def build(config: EngineConfig, report: LoadReport) -> tuple[EngineCore, ModelInfo]:
    report.stage("checks")
    behaviour = config.name or config.model
    word, _, rest = behaviour.partition(" ")
    if behaviour == "fails" or (word == "once" and Path(rest).exists()):
        raise CheckpointError("tensor 'x' is missing from model.safetensors")
    if word == "once":
        Path(rest).touch()
    if behaviour == "crashes":
        raise ZeroDivisionError("a bug")
    if behaviour == "hangs":
        time.sleep(600)
    if behaviour == "stubborn":
        threading.Thread(target=threading.Event().wait).start()
    report.checked()
    if behaviour == "broken":
        raise CheckpointError("tensor 'x' has NaN in model.safetensors")
    if behaviour == "late":
        report.stage("weights", 4)
        for part in range(1, 5):
            time.sleep(0.25)
            report.reach(part)
    while word == "until" and not Path(rest).exists():
        time.sleep(0.01)
    runner = RUNNERS.get(behaviour, ToyRunner)(
        config.block_size,
        VOCAB_SIZE,
        breaks_on=lambda each: (
            each.request_id.startswith("bad") or (behaviour == "faulty" and each.prompt_token_ids == (98,))
        ),
    )
    engine = toy_engine(
        num_blocks=config.kv_cache_tokens // config.block_size,
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        runner=runner,
    )
    return engine.core, replace(
        engine.core.model,
        max_queued_requests=config.max_queued_requests,
        max_queued_tokens=config.max_queued_tokens,
    )


if __name__ == "__main__":
    configure_logging(LogSettings(*sys.argv[2:]))
    run_engine_process(int(sys.argv[1]), build)
