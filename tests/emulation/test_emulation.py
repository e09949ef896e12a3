"""The emulated device against what CUDA says a device does: exchanges, fragments, asynchronous copies, and faults."""

from __future__ import annotations

from ctypes import c_int32, c_void_p

import pytest
import torch

from engine.errors import DeviceError
from tests.emulation import probes
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.emulation.probes import run_probe

every_schedule = pytest.mark.parametrize(
    ("schedule", "seed"),
    [(Schedule.FORWARD, 0), (Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1), (Schedule.SHUFFLED, 2)],
)


@pytest.fixture(autouse=True)
def _prepared(emulated: EmulatedRuntime) -> None:
    run(emulated, "probe_prepare")


def run(emulated: EmulatedRuntime, name: str, *arguments: torch.Tensor | int) -> None:
    stream = [] if name == "probe_prepare" else [0]
    emulated.library.check(run_probe(emulated.library.functions, name, *stream, *arguments))


def test_mma_multiplies_by_the_fragment_tables_of_the_ptx_isa(emulated: EmulatedRuntime) -> None:
    a, b, c = torch.randn(16, 16).half(), torch.randn(16, 8).half(), torch.randn(16, 8)
    d = probes.d_registers(c).contiguous()
    run(emulated, "probe_mma", probes.a_registers(a).contiguous(), probes.b_registers(b).contiguous(), d)
    assert torch.equal(d, probes.d_registers((a.double() @ b.double() + c.double()).float()))


@pytest.mark.parametrize("step", [0, 1])
def test_wgmma_multiplies_by_the_tables_of_the_ptx_isa(emulated: EmulatedRuntime, step: int) -> None:
    a, b, c = torch.randn(64, 16).half(), torch.randn(64, 32).half(), torch.randn(64, 64)
    d = probes.group_d_registers(c).contiguous()
    run(emulated, "probe_group", probes.group_a_registers(a).contiguous(), b, step, d)
    taken = b[:, 16 * step : 16 * step + 16].double()
    assert torch.equal(d, probes.group_d_registers((a.double() @ taken.t() + c.double()).float()))


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_are_loaded_by_the_tables_of_the_ptx_isa(emulated: EmulatedRuntime, transposed: bool) -> None:
    matrices = torch.arange(4 * 64, dtype=torch.int16).reshape(4, 8, 8)
    out = torch.zeros(32, 4, 2, dtype=torch.int16)
    run(emulated, "probe_matrices", matrices, int(transposed), out)
    assert torch.equal(out, probes.matrix_registers(matrices, transposed))


@every_schedule
def test_lanes_exchange_values_and_votes(emulated: EmulatedRuntime, schedule: Schedule, seed: int) -> None:
    x = torch.randint(-9, 9, (2, 32)).float()
    out, votes = torch.zeros(2, 32), torch.zeros(2, 3, dtype=torch.int32)
    with emulated.in_order(schedule, seed):
        run(emulated, "probe_exchanges", x, out, votes)
    lane = torch.arange(32)
    down, up = torch.where(lane + 2 < 32, lane + 2, lane), torch.where(lane >= 7, lane - 7, lane)
    assert torch.equal(out, x + x[:, 3:4] + x[:, lane ^ 5] * 2 + x[:, down] * 4 + x[:, up] * 8)
    assert torch.equal(votes[:, 0].long() & 0xFFFFFFFF, ((x > 0).long() << lane).sum(1))
    assert votes[:, 1:].tolist() == [[0, 1], [0, 1]]


@every_schedule
def test_a_block_sum_has_one_value(emulated: EmulatedRuntime, schedule: Schedule, seed: int) -> None:
    x = torch.randn(128)
    out = torch.zeros(128)
    with emulated.in_order(schedule, seed):
        run(emulated, "probe_block_sums", x, out)
    assert out.unique().numel() == 1
    assert out[0].item() == pytest.approx(x.sum().item() + 128, rel=1e-6)


@every_schedule
def test_asynchronous_copies_arrive_when_waited_for(emulated: EmulatedRuntime, schedule: Schedule, seed: int) -> None:
    source = torch.randint(1, 100, (3, 64, 4), dtype=torch.int32)
    target = torch.zeros_like(source)
    with emulated.in_order(schedule, seed):
        run(emulated, "probe_pipeline", source, target, 1)
    assert torch.equal(target, source.roll(-1, 1))


def test_a_missing_wait_shows(emulated: EmulatedRuntime) -> None:
    source = torch.randint(1, 100, (3, 64, 4), dtype=torch.int32)
    target = torch.zeros_like(source)
    run(emulated, "probe_pipeline", source, target, 2)
    assert target[0].eq(-1).all()  # 0xff bytes: NaN in every float type


@every_schedule
def test_blocks_may_wait_for_each_other(emulated: EmulatedRuntime, schedule: Schedule, seed: int) -> None:
    turn, order = torch.zeros(1, dtype=torch.int32), torch.full((9,), -1, dtype=torch.int32)
    with emulated.in_order(schedule, seed):
        run(emulated, "probe_turns", 9, turn, order)
    assert order.tolist() == list(range(9))


def run_faulty(emulated: EmulatedRuntime, which: int, out: torch.Tensor) -> None:
    function = emulated.library.functions.probe_bad
    function.argtypes = (c_int32, c_void_p)
    emulated.library.check(function(which, out.data_ptr()))


@pytest.mark.parametrize(
    ("which", "complaint"),
    [
        (0, "while others wait at a barrier|after some of its threads have ended"),
        (1, "lanes of one warp diverge: at shuffle and at shuffle_xor"),
        (2, "shared memory values: element 32 of 32"),
        (3, "written beyond the bounds of shared memory values"),
        (5, "blocks wait for each other without end"),
        (6, "a block of 48 threads"),
        (7, "65536 bytes of dynamic shared memory, more than"),
        (8, "wgmma: registers of A were changed before it was waited for"),
        (9, "matrix of 512 bytes at an address that is not aligned to them"),
    ],
)
def test_faults_end_the_launch_with_a_reason(emulated: EmulatedRuntime, which: int, complaint: str) -> None:
    with pytest.raises(DeviceError, match=complaint):
        run_faulty(emulated, which, torch.zeros(64, dtype=torch.int32))
    x, out = torch.ones(128), torch.zeros(128)
    run(emulated, "probe_block_sums", x, out)  # the next launch is as if nothing had happened
    assert out.eq(256).all()


def test_a_race_shows_as_a_result_that_depends_on_the_order(emulated: EmulatedRuntime) -> None:
    results = set()
    for schedule in (Schedule.FORWARD, Schedule.REVERSE):
        out = torch.zeros(1, dtype=torch.int32)
        with emulated.in_order(schedule):
            run_faulty(emulated, 4, out)
        results.add(int(out))
    assert results == {0, 63}
