"""The run on a GPU, as far as it goes without one: its checks on the emulated device, its stages, its table."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import attention_speed, exl2_speed, exl2_ways, invariance, model_speed, sampling, speed
from benchmarks.gpu.engine_under_test import Load
from benchmarks.gpu.exl2_speed import GROUP_ROWS, MIX, random_matrix
from benchmarks.gpu.fragments import check_fragments
from benchmarks.gpu.model_speed import Plan
from benchmarks.gpu.results import table
from benchmarks.gpu.rows import hand_over
from benchmarks.gpu.stages import Outcome, Stage, run_stage, run_stages
from benchmarks.gpu.sweep import cases, check
from benchmarks.gpu.yardstick import Effort
from benchmarks.random_exl2_model import RandomModel
from benchmarks.report import Row
from engine.ops.cuda_backend import CudaBackend
from tests.emulation.card import EmulatedCard
from tests.emulation.device import EmulatedRuntime


def test_fragment_maps_pass_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = check_fragments(emulated.library.functions, lambda tensor: tensor, warp_groups=True)
    assert len(rows) == 7
    assert all(row.met for row in rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_sweep_passes_on_the_emulated_device(emulated: EmulatedRuntime, dtype: torch.dtype) -> None:
    backend = CudaBackend(emulated, dtype)
    rows = [row for case in cases(small=True) for row in check(case, backend)]
    assert all(row.met for row in rows), [str(row) for row in rows if not row.met]


def test_sampling_passes_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = sampling.check(emulated, sampling.SMALL, 2 * len(sampling.KINDS))
    assert [row.value for row in rows] == [0, 0]


LITTLE = Effort(rounds=1, calls=1, copy_bytes=1 << 12, rotated_bytes=1 << 12)


def test_speed_of_ops_runs_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = list(speed.measure(EmulatedCard(emulated), LITTLE, tokens=(1,)))
    assert {row.name for row in rows} > {"reading: bandwidth", "rms_norm of 1: share of copying"}
    assert all(row.value > 0 for row in rows)


def test_speed_of_attention_runs_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    card = EmulatedCard(emulated)
    rows = list(attention_speed.measure(card, LITTLE, contexts=((2, 20, 0.75),), prompts=((5, 20), (6, 6))))
    assert [row.name for row in rows if row.target is not None] == ["attention 2 x 20: share of copying"]
    assert {row.name for row in rows} > {
        f"attention of {each}: speed" for each in ("5 tokens over 20", "6 tokens over 6")
    }
    assert all(row.value > 0 for row in rows)


def test_speed_of_exl2_products_runs_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = list(exl2_speed.measure(EmulatedCard(emulated), LITTLE, shapes=((128, 64),), all_rows=(1, 16)))
    assert len(rows) == 2 + 6 * 2 + 6 * 2 * 3
    assert sum(row.target is not None for row in rows) == 1 + 6 + 6
    assert all(row.value > 0 for row in rows)


def test_ways_of_exl2_products_run_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    card = EmulatedCard(emulated)
    rows = list(exl2_ways.measure(card, LITTLE, together=((128, 64), (128, 32)), large=(128, 64), all_rows=(3, 65)))
    assert len(rows) == 2 + 2 * 3
    assert all(row.value > 0 for row in rows)


def test_a_whole_model_runs_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    shape = RandomModel(hidden=64, layers=1, intermediate=32, heads=2, kv_heads=1, vocab=96, positions=64, widths=(4,))
    decodes = (Load(1, 5, 7, step_tokens=8), Load(2, 5, 7, step_tokens=8))
    plan = Plan("tiny", shape, decodes, Load(1, 8, 2, step_tokens=8), against_dense=True, target=0.6)
    rows = list(model_speed.measure(EmulatedCard(emulated), LITTLE, plan))
    named = {row.name: row for row in rows}
    assert len(rows) == 2 + 2 * 10 + 2
    assert named["tiny, decode, 1 streams: share of copying"].target == 0.6
    assert named["tiny, prefill of 8: speed, of a float16 model's"].target == 0.92
    assert all(row.value > 0 for row in rows if "idle" not in row.name and "memory" not in row.name)


def test_rows_have_the_same_bits_in_any_company_on_the_emulated_device(emulated: EmulatedRuntime) -> None:
    rows = list(invariance.measure(EmulatedCard(emulated), invariance.SMALL))
    assert [row.value for row in rows] == [0] * 6


def test_what_is_handed_over_is_there_even_if_the_rest_is_not(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield Row("first", 1.0, "s", target=2.0)
        raise RuntimeError("the card is gone")

    with pytest.raises(RuntimeError, match="gone"):
        hand_over(broken(), tmp_path / "rows.json")
    assert [row["name"] for row in json.loads((tmp_path / "rows.json").read_text())] == ["first"]


def test_when_the_time_is_over_stages_are_left_out(tmp_path: Path) -> None:
    stage = Stage("one", (sys.executable, "-c", "print('well')"), 60)
    assert [each.passed for each in run_stages([stage, stage], 1, tmp_path)] == [True, True]
    (late,) = run_stages([stage], 0, tmp_path)
    assert (late.passed, late.verdict) == (False, "left out")


ROOT = Path(__file__).parents[2]
LACKING = (
    *("fastapi", "pydantic", "uvicorn", "httpx", "sse_starlette", "prometheus_client", "rich", "msgspec", "zmq"),
    *("llguidance", "jinja2", "huggingface_hub", "transformers", "pytest", "hypothesis", "jsonschema", "openai"),
)
"""Packages of the server, the text side and the tests."""


def test_every_stage_names_a_program_that_is_there() -> None:
    for stage in gpu.stages():
        module = next(word for word in stage.command if word.startswith(("benchmarks.", "cuda_ext.")))
        assert importlib.util.find_spec(module) is not None


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
    program = f"""import sys
sys.modules.update(dict.fromkeys({LACKING}))
from pathlib import Path
from benchmarks.gpu import invariance
from tests.emulation.card import EmulatedCard
from tests.emulation.device import EmulatedRuntime
card = EmulatedCard(EmulatedRuntime(Path({str(emulated.library.path)!r})))
print(len(list(invariance.check_engine(card, invariance.SMALL))))"""
    result = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["3"]


def test_a_stage_that_fails_hangs_or_is_missing_is_an_outcome(tmp_path: Path) -> None:
    def run(*command: str, seconds: float = 60.0) -> Outcome:
        return run_stage(Stage("one", command, seconds), tmp_path)

    assert run(sys.executable, "-c", "print('well')").passed
    failed = run(sys.executable, "-c", "raise SystemExit('not well')")
    assert (failed.passed, "not well" in failed.said) == (False, True)
    late = run(sys.executable, "-c", "import time; time.sleep(600)", seconds=0.5)
    assert (late.passed, "not done after" in late.said) == (False, True)
    assert not run("/no/such/program").passed
    left = run("sh", "-c", "sleep 600 & echo begun; wait", seconds=0.5)  # which holds its output open, and is ended
    assert (left.passed, left.said.split()) == (False, ["begun", "not", "done", "after", "0", "s"])


def test_results_are_there_after_every_stage_and_stay_until_it_is_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look = f"import glob; print(open(glob.glob('{tmp_path}/gpu-*.json')[0]).read())"
    wanted = [Stage("first", (sys.executable, "-c", "raise SystemExit('not well')"), 60)]
    wanted.append(Stage("second", (sys.executable, "-c", look), 60))
    monkeypatch.setattr(gpu, "card_name", lambda: ("NVIDIA H200", "580.1"))
    monkeypatch.setattr(gpu, "stages", lambda: wanted)

    def stages_kept() -> dict[str, bool]:
        (file,) = tmp_path.glob("gpu-*-nvidia-h200.json")
        content = json.loads(file.read_text())
        assert (content["device"], content["driver"]) == ("NVIDIA H200", "580.1")
        assert "| second | passed |" in file.with_suffix(".md").read_text()
        second = next(each for each in content["stages"] if each["stage"] == "second")
        assert '"not well\\n"' in second["said"], "the first was in the file when the second ran"
        return {each["stage"]: each["passed"] for each in content["stages"]}

    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert stages_kept() == {"first": False, "second": True}
    wanted[0] = Stage("first", (sys.executable, "-c", ""), 60)
    assert gpu.main(["--results", str(tmp_path), "--only", "first"]) == 0
    assert stages_kept() == {"first": True, "second": True}
    assert "FAILED   first" in capsys.readouterr().out


def test_the_table_names_stages_and_rows() -> None:
    aimed: dict[str, object] = {"target": 0.75, "at_least": True, "met": False}
    rows: list[dict[str, object]] = [{"name": "copy", "value": 0.5, "unit": "GB/s", **aimed}]
    rows.append({"name": "other", "value": 2.0, "unit": "s", "target": None})
    text = table("H200", [Outcome("build", True, 1.0, "", rows), Outcome("speed", False, 2.0, "", [])])
    assert "| build | passed | 1.0 |" in text
    assert "| speed | FAILED | 2.0 |" in text
    assert "| copy | 0.5 | GB/s | ≥ 0.75 | MISSED |" in text
    assert "| other | 2 | s |" in text


def test_without_a_card_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "card_name", lambda: ("", ""))
    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert "nothing to measure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_measured_matrices_have_the_widths_they_are_named_by() -> None:
    mixed = random_matrix((2560, 64), MIX)
    assert [group.width for group in mixed.groups] == [5] * 2 + [4] * 18
    assert mixed.in_features == 2560
    plain = random_matrix((2 * GROUP_ROWS, 32), ((3, 1.0),))
    assert [group.width for group in plain.groups] == [3, 3]
