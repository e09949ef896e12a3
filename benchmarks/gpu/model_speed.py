"""Stage: a whole model on this card, with random weights: decode with and without graphs, prefill, 64 streams.

Steps are those of the engine, with a step under way while the host handles the one before. Bytes of a step are those of
the matrices, and of the keys and values that are read; what they are held to is copying, measured in the same run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.gpu.card import Card
from benchmarks.gpu.engine_under_test import Decoding, EngineUnderTest, Load
from benchmarks.gpu.program import Program, Wanted
from benchmarks.gpu.random_model import (
    EIGHT_BILLION,
    ONE_BILLION,
    TENTH_OF_SEVENTY_BILLION,
    load_random_model,
)
from benchmarks.gpu.yardstick import LITTLE, Effort, copy_bandwidth
from benchmarks.random_exl2_model import RandomModel
from benchmarks.report import Row
from engine.execution.recorded_steps import recordings_bytes
from engine.model.loader import LoadedModel
from engine.ops.cuda_backend import CudaBackend


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of a model.

    Attributes:
        name: for people.
        model: its shape.
        decodes: loads that are decoded.
        prefill: a load whose prompts are timed, beside a float16 model of the same shape where `against_dense` is.
        against_dense: whether there is to be one.
        target: for the first of the loads, share of copying.
    """

    name: str
    model: RandomModel
    decodes: tuple[Load, ...]
    prefill: Load
    against_dense: bool = False
    target: float | None = None


DECODES = (Load(1, 512, 128), Load(16, 512, 128), Load(64, 512, 160))
PREFILL = Load(1, 2048, 2)
PLANS = {
    "8B": Plan("8B", EIGHT_BILLION, DECODES, PREFILL, against_dense=True, target=0.6),
    "1B": Plan("1B", ONE_BILLION, DECODES, PREFILL),
    "70B": Plan("8 of 80 layers of a 70B", TENTH_OF_SEVENTY_BILLION, DECODES[:2], PREFILL),
}
TINY = Plan(
    "tiny",
    RandomModel(hidden=64, layers=1, intermediate=32, heads=2, kv_heads=1, vocab=96, positions=64, widths=(4,)),
    decodes=(Load(1, 5, 7, step_tokens=8), Load(2, 5, 7, step_tokens=8)),
    prefill=Load(1, 8, 2, step_tokens=8),
    against_dense=True,
    target=0.6,
)
"""Enough to see that everything runs."""

BUSY_STREAMS = 16
MOST_IDLE = 0.02


def measure_decode(
    card: Card, loaded: LoadedModel, plan: Plan, load: Load, bandwidth: float, target: float | None
) -> list[Row]:
    """Steps of one load, recorded and not."""
    found: dict[bool, Decoding] = {}
    taken: dict[bool, int] = {}
    EngineUnderTest(card, loaded, load, graphs=False)  # what the model itself keeps from its first engine on
    for graphs in (False, True):
        before = card.free_bytes()
        engine = EngineUnderTest(card, loaded, load, graphs=graphs)
        taken[graphs] = before - card.free_bytes()
        found[graphs] = engine.decode(load)
        del engine
    recorded, plain = found[True], found[False]
    label = f"{plan.name}, decode, {load.streams} streams"
    ideal = _bytes_of_step(loaded, load) / bandwidth
    recordings, kept = taken[True] - taken[False], recordings_bytes(loaded.config.num_layers, load.streams)
    return [
        Row(f"{label}: tokens per second", load.streams / recorded.seconds, "1/s"),
        Row(f"{label}: step", recorded.seconds * 1e6, "µs"),
        Row(f"{label}: step without graphs", plain.seconds * 1e6, "µs"),
        Row(f"{label}: share of copying", ideal / recorded.seconds, "", target, at_least=True),
        *_idle(label, recorded, MOST_IDLE if load.streams >= BUSY_STREAMS else None),
        Row(f"{label}: card waits for the host, without graphs", plain.late_seconds * 1e6, "µs/step"),
        Row(f"{label}: host", recorded.host_seconds * 1e6, "µs/step"),
        Row(f"{label}: memory of the graphs", recordings / 2**20, "MiB"),
        Row(f"{label}: memory of the graphs, of what is kept for them", recordings / kept, "", 1.0),
        Row(f"{label}: tokens per second, prompts included", _whole_rate(load, recorded), "1/s"),
    ]


def _idle(label: str, found: Decoding, most: float | None) -> Iterator[Row]:
    """What a step takes beyond its recording, and how much of that the card waits for the host to begin."""
    if found.idle is not None and found.replay_seconds is not None:
        yield Row(f"{label}: step's recording alone", found.replay_seconds * 1e6, "µs")
        yield Row(f"{label}: card idle", found.idle, "", most)
    yield Row(f"{label}: card waits for the host", found.late_seconds * 1e6, "µs/step")


def measure_prefill(card: Card, loaded: LoadedModel, plan: Plan) -> list[Row]:
    """A prompt, and the same with a dense model."""
    load = plan.prefill
    label = f"{plan.name}, prefill of {load.prompt}"
    seconds = EngineUnderTest(card, loaded, load, graphs=False).prefill(load)
    rows = [Row(f"{label}: tokens per second", load.prompt * load.streams / seconds, "1/s")]
    if plan.against_dense:
        backend = CudaBackend(card.runtime)
        dense = load_random_model(plan.model, backend, load.step_tokens, dense=True)
        dense_seconds = EngineUnderTest(card, dense, load, graphs=False).prefill(load)
        rows.append(Row(f"{label}: speed, of a float16 model's", dense_seconds / seconds, "", 0.92, at_least=True))
    return rows


def measure(card: Card, effort: Effort, plan: Plan) -> Iterator[Row]:
    """One model."""
    bandwidth = copy_bandwidth(card, effort)
    yield Row("copying: bandwidth, read and written", bandwidth / 1e9, "GB/s")
    started = time.perf_counter()
    most_tokens = max(load.step_tokens for load in (*plan.decodes, plan.prefill))
    loaded = load_random_model(plan.model, CudaBackend(card.runtime), most_tokens)
    yield Row(f"{plan.name}: made and loaded", time.perf_counter() - started, "s")
    for load in plan.decodes:
        target = plan.target if load is plan.decodes[0] else None
        yield from measure_decode(card, loaded, plan, load, bandwidth, target)
    yield from measure_prefill(card, loaded, plan)


def _bytes_of_step(loaded: LoadedModel, load: Load) -> int:
    """Matrices, and the keys and values of the streams halfway through their answers."""
    config = loaded.config
    matrices = loaded.summary.weight_bytes - loaded.model.embedding.table.nbytes
    kept = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 2
    return matrices + load.streams * (load.prompt + load.answer // 2) * kept


def _whole_rate(load: Load, found: Decoding) -> float:
    return load.streams * load.answer / found.total_seconds


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    return measure(card, LITTLE, TINY) if wanted.small else measure(card, Effort(), PLANS[wanted.subject])


PROGRAM = Program(__doc__, _rows, checks=False, subjects=tuple(PLANS))

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
