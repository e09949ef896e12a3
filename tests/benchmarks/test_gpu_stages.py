"""Stages of the run on a GPU, on the emulated device: they pass, measure what they say, and leave no op out."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from ctypes import c_void_p
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import exl2_speed, model_speed, sampling, sampling_speed, speed, sweep
from benchmarks.gpu.cases import elementwise_cases
from benchmarks.gpu.engine_under_test import Decoding
from benchmarks.gpu.exl2_speed import GROUP_ROWS, MIX, random_matrix
from benchmarks.gpu.program import Program
from benchmarks.gpu.yardstick import LITTLE
from benchmarks.report import Row
from cuda_ext import loader
from engine.ops.backend import Backend
from engine.ops.cuda_backend import CudaBackend
from tests.emulation.card import EmulatedCard
from tests.emulation.device import EmulatedRuntime
from tests.emulation.stage import LACKING

ROOT = Path(__file__).parents[2]
MODULES = sorted({word for stage in gpu.stages() for word in stage.command if word.startswith("benchmarks.")})


@pytest.fixture
def card(emulated: EmulatedRuntime) -> EmulatedCard:
    return EmulatedCard(emulated)


@pytest.mark.parametrize("module", [name for name in MODULES if name != sweep.__name__])  # for that, see `swept`
def test_every_stage_runs_on_the_emulated_device(card: EmulatedCard, module: str, tmp_path: Path) -> None:
    program: Program = importlib.import_module(module).PROGRAM
    file = tmp_path / "rows.json"
    assert program.main([*program.subjects[:1], "--small", "--json", str(file)], lambda: card) == 0
    rows = json.loads(file.read_text())
    if program.checks:
        assert [row["name"] for row in rows if row["met"] is False] == []
        assert any(row["met"] for row in rows)
    else:
        may_be_less = ("idle", "memory", "waits")
        assert [row for row in rows if row["value"] <= 0 and not any(word in row["name"] for word in may_be_less)] == []


def test_a_check_that_misses_is_a_failure_and_a_figure_is_none(card: EmulatedCard) -> None:
    missed = Row("one", 2.0, "s", target=1.0)
    assert Program("", lambda _card, _wanted: [missed], checks=True).main([], lambda: card) == 1
    assert Program("", lambda _card, _wanted: [missed], checks=False).main([], lambda: card) == 0


def test_a_machine_that_has_little_but_torch_is_enough() -> None:
    """Nothing that only serving needs is imported: such a machine may have no way to get it."""
    modules = [
        word for stage in gpu.stages() for word in stage.command if word.startswith(("benchmarks.", "cuda_ext."))
    ]
    program = f"""import importlib, sys
sys.modules.update(dict.fromkeys({LACKING}))
for name in {sorted({*modules, "benchmarks.gpu.__main__"})}:
    importlib.import_module(name)"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_an_engine_runs_with_little_but_torch(emulated: EmulatedRuntime) -> None:
    """The other stages do in the slow test of the whole run."""
    command = [sys.executable, "-m", "tests.emulation.stage", str(emulated.library.path), "benchmarks.gpu.invariance"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@dataclass
class Swept:
    """What a sweep did.

    Attributes:
        rows: that it handed over.
        functions: of the library, that it called.
        options: op, parameter, and whether that was given.
    """

    rows: list[Row] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    options: set[tuple[str, str, bool]] = field(default_factory=set)


class _Noted:
    """The functions of a library, which notes those that are called."""

    def __init__(self, functions: Any, called: set[str]) -> None:
        self._functions = functions
        self._called = called

    def __getattr__(self, name: str) -> Any:
        self._called.add(name)
        return getattr(self._functions, name)


def _ops() -> dict[str, inspect.Signature]:
    functions = {name: op for name, op in vars(Backend).items() if inspect.isfunction(op)}
    return {name: inspect.signature(op) for name, op in functions.items() if not name.startswith("_")}


def _noting(name: str, swept: Swept) -> Callable[..., Any]:
    op, signature = getattr(CudaBackend, name), _ops()[name]

    def call(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        swept.options.update((name, option, value is not None) for option, value in bound.arguments.items())
        return op(*arguments, **named)

    return call


@pytest.fixture(scope="module")
def swept(emulated: EmulatedRuntime) -> Swept:
    """The sweep and sampling, watched."""
    done = Swept()
    noted: Any = _Noted(emulated.library.functions, done.functions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulated, "_seen", replace(emulated.library, functions=noted))
        for name in _ops():
            patch.setattr(CudaBackend, name, _noting(name, done))
        done.rows += [*sweep.check_all(emulated, small=True), *sampling.check(emulated, sampling.SMALL, 1)]
    return done


def test_the_sweep_passes(swept: Swept) -> None:
    assert [str(row) for row in swept.rows if not row.met] == []


def test_every_kernel_of_the_library_is_tried(swept: Swept) -> None:
    kernels = {name for name, (_, types) in loader._SIGNATURES.items() if types and types[0] is c_void_p}
    assert len(kernels) > 10
    assert not kernels - swept.functions


def test_every_op_is_tried_with_and_without_each_of_its_options(swept: Swept) -> None:
    wanted = {
        (name, option.name, given)
        for name, signature in _ops().items()
        for option in list(signature.parameters.values())[1:]
        for given in ((True, False) if "None" in str(option.annotation) else (True,))
    }
    assert {("paged_attention", "places", False), ("prepare_group", "kernels", True)} <= wanted
    assert not wanted - swept.options


def test_the_sweep_tries_caches_and_matrices_of_every_kind() -> None:
    """What options of ops do not show: types of tensors, biases, matrices together and many rows."""
    names = " | ".join(case.name for case in sweep.cases(small=True, many_rows=True))
    for kept in ("float16", "bfloat16", "float32"):
        for op in ("store_kv", "rotate_and_store", "attention"):
            assert any(op in each and f"cache in {kept}" in each for each in names.split(" | ")), (op, kept)
    assert "after a norm" in names
    assert "after a gate" in names
    assert "after attention" in names
    assert "by the kernel for many rows" in names
    assert "with a bias" in names


def test_the_sweep_sees_a_result_that_is_wrong(emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(_: CudaBackend, x: torch.Tensor, residual: torch.Tensor) -> None:
        residual += 1.01 * x

    monkeypatch.setattr(CudaBackend, "add", add)
    backend = CudaBackend(emulated)
    wrong = [case.name for case in elementwise_cases(3, 257) if not sweep.check(case, backend)[0].met]
    assert wrong == ["add [3, 257]"]


def test_speed_of_ops_names_its_yardsticks(card: EmulatedCard) -> None:
    rows = list(speed.measure(card, LITTLE, tokens=(1,)))
    assert {row.name for row in rows} > {"reading: bandwidth", "rms_norm of 1: share of copying"}


def test_speed_of_exl2_products_has_a_target_for_every_width(card: EmulatedCard) -> None:
    rows = list(exl2_speed.measure(card, LITTLE, shapes=((128, 64),), all_rows=(1, 16)))
    assert len(rows) == 2 + 6 * 2 + 6 * 2 * 3
    assert sum(row.target is not None for row in rows) == 1 + 6 + 6


def test_every_kind_of_sampling_is_timed(card: EmulatedCard) -> None:
    rows = list(sampling_speed.measure(card, LITTLE, (300,), (2,)))
    assert [row.name for row in rows] == [f"sampling 2 of 300, {kind}: time" for kind in sampling.KINDS]


def test_figures_of_a_whole_model(card: EmulatedCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_speed, "BUSY_STREAMS", 2)
    named = {row.name: row for row in model_speed.measure(card, LITTLE, model_speed.TINY)}
    assert named["tiny, decode, 1 streams: share of copying"].target == 0.6
    assert named["tiny, prefill of 8: speed, of a float16 model's"].target == 0.92
    for streams, most in ((1, None), (2, 0.02)):
        label = f"tiny, decode, {streams} streams"
        step, alone = named[f"{label}: step"].value, named[f"{label}: step's recording alone"].value
        idle = named[f"{label}: card idle"]
        assert (idle.value, idle.target) == (pytest.approx(1 - alone / step), most)


def test_what_a_step_takes_beyond_its_recording_is_a_card_that_is_idle() -> None:
    def decoding(replay_seconds: float | None) -> Decoding:
        return Decoding(2.0, replay_seconds, late_seconds=0.1, host_seconds=0.2, total_seconds=9.0)

    assert decoding(1.5).idle == 0.25
    assert decoding(None).idle is None


def test_measured_matrices_have_the_widths_they_are_named_by() -> None:
    mixed = random_matrix((2560, 64), MIX)
    assert [group.width for group in mixed.groups] == [5] * 2 + [4] * 18
    assert mixed.in_features == 2560
    plain = random_matrix((2 * GROUP_ROWS, 32), ((3, 1.0),))
    assert [group.width for group in plain.groups] == [3, 3]
