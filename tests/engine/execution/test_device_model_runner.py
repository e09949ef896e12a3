"""Steps on a device that is late: tokens are those of the runner that computes as it goes, whatever overlaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.block import BlockCopy
from engine.core import EngineCore
from engine.errors import EngineDeadError, KernelArgumentError
from engine.execution.device_model_runner import DeviceModelRunner
from engine.execution.device_step_memory import device_step_bytes
from engine.execution.recorded_steps import recordings_bytes
from engine.execution.step_program import StepProgram
from engine.model.config import ModelConfig
from engine.pooling import PoolingKind, PoolingParams
from engine.reasoning import ReasoningSpec
from engine.scheduling.batch import ScheduledBatch
from engine.types import GenerationRequest, GrammarKind, GrammarSpec, OutputDelta, PromptLogprob
from tests.emulation.device import EmulatedRuntime
from tests.engine.execution.steps import model_config, share
from tests.fakes.device_engine import ToySize, host_engine, late_engine, late_runner, make_runner
from tests.fakes.device_toy import KV_FORMAT
from tests.fakes.toy_engine import choice_tokens, pooled, request, run

COMMON = [5, 6, 7, 8] * 5
THOUGHT = ReasoningSpec("<", ">", begun=True, budget=4, closing_token_ids=tuple(b"\n>"))
KINDS: list[dict[str, object]] = [
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.0, "repetition_penalty": 1.3, "presence_penalty": 0.5},
    {"temperature": 0.7, "n": 3, "top_k": 20},
    {"temperature": 0, "logit_bias": {9: 4.0}},
    {"temperature": 0.5, "min_tokens": 5, "ignore_eos": False, "logprobs": 3},
    {"temperature": 0.9, "ignore_eos": False, "grammar": GrammarSpec(GrammarKind.REGEX, "[0-9]{3}[!-/]*")},
    {"temperature": 0.8, "reasoning": THOUGHT},
    {
        "temperature": 0.9,
        "ignore_eos": False,
        "grammar": GrammarSpec(GrammarKind.REGEX, "[0-9]{3}[!-/]*"),
        "reasoning": THOUGHT,
    },
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return model_config(tmp_path_factory.mktemp("toy"))


def varied(count: int = 10) -> list[GenerationRequest]:
    """Of every kind and of many lengths; half begin alike."""
    return [
        request(
            str(number),
            (COMMON if number % 2 else []) + [2 + (number * 7 + index) % 50 for index in range(1 + number * 3 % 11)],
            max_tokens=8 + number % 9,
            seed=number,
            **KINDS[number % len(KINDS)],
        )
        for number in range(count)
    ]


def answers(core: EngineCore, wanted: list[GenerationRequest]) -> dict[tuple[str, int], list[int]]:
    """All tokens of all choices; nothing fails."""
    for each in wanted:
        core.add(each)
    deltas, failures = run(core)
    assert not failures
    return {
        (each.request_id, choice): choice_tokens(deltas[each.request_id], choice)
        for each in wanted
        for choice in range(each.sampling.n)
    }


@pytest.mark.parametrize(("graphs", "pipeline_depth"), [(True, 1), (True, 0), (False, 1)])
def test_tokens_are_those_of_the_host(
    config: ModelConfig, emulated: EmulatedRuntime, graphs: bool, pipeline_depth: int
) -> None:
    size = ToySize(num_blocks=17)
    core, device = late_engine(config, size, emulated, graphs=graphs, pipeline_depth=pipeline_depth)
    warm = device.replays

    found = answers(core, varied())

    assert found == answers(host_engine(config, size), varied())
    assert core.stats.preemptions_total > 0
    assert core.stats.prefix_cache_hits_total > 0
    assert (device.replays - warm > 10) == graphs


def prompt_logprobs(core: EngineCore, wanted: list[GenerationRequest]) -> dict[str, tuple[PromptLogprob, ...]]:
    """What is said of each prompt; it is said once."""
    for each in wanted:
        core.add(each)
    deltas, failures = run(core)
    assert not failures
    told = {name: [delta.prompt_logprobs for delta in each if delta.prompt_logprobs] for name, each in deltas.items()}
    assert all(len(each) == 1 for each in told.values())
    return {name: each[0] for name, each in told.items()}


@pytest.mark.parametrize(("budget", "seqs", "pipeline_depth"), [(24, 4, 1), (24, 4, 0), (5, 3, 1)])
def test_prompts_are_read_as_on_the_host(
    config: ModelConfig, emulated: EmulatedRuntime, budget: int, seqs: int, pipeline_depth: int
) -> None:
    """In steps with more rows to read than there is room for at a time, beside others that decode."""
    size = ToySize(num_blocks=17, max_num_seqs=seqs, max_num_batched_tokens=budget)
    core, _ = late_engine(config, size, emulated, pipeline_depth=pipeline_depth)
    wanted = [
        request(
            str(number), [*COMMON[: 1 + 7 * number % 20], 9 + number], max_tokens=number % 4, prompt_logprobs=number
        )
        for number in range(8)
    ]

    found = prompt_logprobs(core, wanted)

    expected = prompt_logprobs(host_engine(config, ToySize()), wanted)
    for name, entries in expected.items():
        for told, own in zip(found[name], entries, strict=True):
            assert (told.token_id, told.data) == (own.token_id, own.data)
            assert told.logprob == (None if own.logprob is None else pytest.approx(own.logprob, abs=1e-5))
            assert [top.token_id for top in told.top] == [top.token_id for top in own.top]
            assert [top.logprob for top in told.top] == pytest.approx([top.logprob for top in own.top], abs=1e-5)
            assert all(top.logprob == told.logprob for top in told.top if top.token_id == told.token_id)


@pytest.mark.parametrize(("budget", "pipeline_depth"), [(24, 1), (5, 1), (5, 0)])
def test_vectors_are_those_of_the_host(
    config: ModelConfig, emulated: EmulatedRuntime, budget: int, pipeline_depth: int
) -> None:
    size = ToySize(num_blocks=17, max_num_batched_tokens=budget)
    core, _ = late_engine(config, size, emulated, pipeline_depth=pipeline_depth)
    wanted = [
        pooled(f"vector {number}", [*COMMON[: 1 + 7 * number % 20], 9 + number], PoolingParams(kind, number or None))
        for number in range(5)
        for kind in PoolingKind
        if (number % 2 == 0) == (kind is PoolingKind.MEAN)
    ]

    assert embeddings(core, [*varied(4), *wanted]) == embeddings(host_engine(config, ToySize()), wanted)


def embeddings(core: EngineCore, wanted: list[GenerationRequest]) -> dict[str, list[bytes]]:
    """The vectors there are; nothing fails."""
    for each in wanted:
        core.add(each)
    deltas, failures = run(core)
    assert not failures
    found = {name: [delta.embedding for delta in each if delta.embedding] for name, each in deltas.items()}
    return {name: each for name, each in found.items() if each}


@dataclass(frozen=True)
class Arrival:
    """A request, the step before which it arrives, and after how many more it is aborted, if at all."""

    what: GenerationRequest
    step: int
    abort_after: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    wanted = [replace(each, priority=draw(st.sampled_from([0, 0, 1]))) for each in varied(draw(st.integers(2, 7)))]
    return [
        Arrival(each, draw(st.integers(0, 8)), draw(st.sampled_from([None, None, None, 1, 3, 6]))) for each in wanted
    ]


def play(core: EngineCore, script: list[Arrival]) -> dict[str, list[OutputDelta]]:
    """Run a script to its end."""
    deltas: dict[str, list[OutputDelta]] = {}
    for step in range(400):
        for each in script:
            if each.step == step:
                core.add(each.what)
            if each.abort_after is not None and each.step + each.abort_after == step:
                core.abort(each.what.request_id)
        output = core.step()
        assert not output.failures
        for delta in output.deltas:
            deltas.setdefault(delta.request_id, []).append(delta)
    assert not core.has_work
    return deltas


@settings(max_examples=4)
@given(script=arrivals(), num_blocks=st.integers(16, 24), block_size=st.sampled_from([3, 4]))
def test_whatever_arrives_and_leaves(
    config: ModelConfig, emulated: EmulatedRuntime, script: list[Arrival], num_blocks: int, block_size: int
) -> None:
    size = ToySize(num_blocks=num_blocks, block_size=block_size, max_model_len=48)
    core, _ = late_engine(config, size, emulated)

    deltas = play(core, script)

    expected = answers(host_engine(config, ToySize(num_blocks=400)), [each.what for each in script])
    for each in script:
        for choice in range(each.what.sampling.n):
            found = choice_tokens(deltas.get(each.what.request_id, []), choice)
            whole = expected[each.what.request_id, choice]
            assert found == (whole if each.abort_after is None else whole[: len(found)])


def test_a_step_is_one_copy_there_and_one_back_and_nobody_waits_for_it(
    config: ModelConfig, emulated: EmulatedRuntime
) -> None:
    runner, device = late_runner(config, ToySize(), emulated)
    batch = ScheduledBatch((share([5, 6, 7], 0, 3, [0], sample=True), share([9, 9, 9], 0, 2, [1])))
    copies, waits = device.copies, device.waits

    handle = runner.submit(batch)

    assert (device.copies - copies, device.waits - waits) == (2, 0)
    sampled = runner.collect(handle).tokens
    assert (device.copies - copies, device.waits - waits) == (2, 1)
    assert sampled[0] is not None
    assert sampled[1] is None


def test_host_memory_for_counted_tokens_is_taken_once(config: ModelConfig, emulated: EmulatedRuntime) -> None:
    size = ToySize()
    core, device = late_engine(config, size, emulated)
    taken = device.host_buffers
    assert taken >= 2 * size.max_num_seqs
    penalised = [request(str(number), [5 + number, 6], seed=number, max_tokens=6, **KINDS[2]) for number in range(9)]
    assert answers(core, penalised) == answers(host_engine(config, size), penalised)
    assert device.host_buffers == taken


def test_what_copies_blocks_is_loaded_at_start_up(config: ModelConfig, emulated: EmulatedRuntime) -> None:
    """CUDA loads a kernel when it is first used, which takes memory and waits for the device."""
    _, device = late_runner(config, ToySize(), emulated)
    assert "index_copy_" in device.operations


def test_a_step_that_samples_nothing(config: ModelConfig, emulated: EmulatedRuntime) -> None:
    runner, device = late_runner(config, ToySize(), emulated)
    copies = device.copies
    assert runner.collect(runner.submit(ScheduledBatch((share([5, 6, 7], 0, 2, [0]),)))).tokens == [None]
    assert device.copies == copies + 1


def test_a_token_that_does_not_exist_never_reaches_the_device(config: ModelConfig, emulated: EmulatedRuntime) -> None:
    runner, device = late_runner(config, ToySize(), emulated)
    copies = device.copies
    with pytest.raises(KernelArgumentError, match="token_ids holds 64"):
        runner.submit(ScheduledBatch((share([5, config.vocab_size], 0, 2, [0], sample=True),)))
    assert device.copies == copies


def test_a_lost_device_ends_the_engine(
    config: ModelConfig, emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, device = late_engine(config, ToySize(), emulated)
    core.add(request("a", [5, 6, 7], max_tokens=5))

    def lost(number: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(device, "run_until", lost)
    with pytest.raises(EngineDeadError, match="illegal memory access"):
        core.step()


def test_after_a_step_that_failed_the_buffers_are_good_again(
    config: ModelConfig, emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, _ = late_engine(config, ToySize(), emulated)
    fail = iter([False, False, True])
    collect = DeviceModelRunner.collect

    def now_and_then(runner: DeviceModelRunner, handle: object) -> object:
        if next(fail, False):
            raise ValueError("something nobody foresaw")
        return collect(runner, handle)  # type: ignore[arg-type]

    monkeypatch.setattr(DeviceModelRunner, "collect", now_and_then)
    core.add(request("a", [5, 6, 7], max_tokens=9))
    _, failures = run(core)
    assert [each.request_id for each in failures] == ["a"]
    wanted = varied(6)
    assert answers(core, wanted) == answers(host_engine(config, ToySize()), wanted)


def test_a_step_that_got_no_further_has_its_buffers_until_the_device_is_done_with_them(
    config: ModelConfig, emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given before it failed includes copies, which read them."""
    runner, device = late_runner(config, ToySize(), emulated)
    failing = ScheduledBatch((share([5, 6, 7], 0, 3, [0], sample=True),), copies=(BlockCopy(0, 5),))

    def fail(program: StepProgram) -> None:
        raise ValueError("something nobody foresaw")

    with monkeypatch.context() as patched:
        patched.setattr(StepProgram, "start", fail)
        with pytest.raises(ValueError, match="foresaw"):
            runner.submit(failing)
    given = device.given
    runner.submit(ScheduledBatch((share([9, 9, 9], 0, 3, [1], sample=True),)))
    assert device.done < given
    runner.submit(ScheduledBatch((share([8, 8, 8], 0, 3, [2], sample=True),)))
    assert device.done == given


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_it_holds_what_was_planned(config: ModelConfig, emulated: EmulatedRuntime, rows: int) -> None:
    size = ToySize(max_num_seqs=rows)
    runner = make_runner(config, size, emulated, graphs=False)
    planned = device_step_bytes(KV_FORMAT, size.block_size, config.vocab_size, size.max_num_batched_tokens, rows)
    tables = 4 * rows * size.max_model_len // size.block_size
    assert 0 <= planned + tables - recordings_bytes(KV_FORMAT.num_layers, rows) - runner.nbytes < 64


@pytest.mark.parametrize(("bytes_of_recording", "level"), [(1 << 10, "INFO"), (1 << 30, "WARNING")])
def test_what_recordings_take_is_told(
    config: ModelConfig,
    emulated: EmulatedRuntime,
    caplog: pytest.LogCaptureFixture,
    bytes_of_recording: int,
    level: str,
) -> None:
    runner = make_runner(config, ToySize(), emulated)
    emulated.late.bytes_of_recording = bytes_of_recording
    with caplog.at_level("INFO", "engine.execution.device_model_runner"):
        runner.warm_up()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().partition(";")[0]) == (
        level,
        f"Recording 3 sizes of steps took {3 * bytes_of_recording / 2**20:.0f} MiB of the device",
    )
