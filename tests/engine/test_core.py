"""The step loop around a toy model."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from engine.errors import (
    ContextLengthError,
    DeviceError,
    EngineDeadError,
    InvalidRequestError,
)
from engine.scheduling.batch import ScheduledBatch
from engine.types import FinishReason
from tests.fakes import toy_engine as toy
from tests.fakes.runner import ToyRunner, ToyStep, toy_token
from tests.fakes.toy_engine import EOS, VOCAB_SIZE, ToyEngine, choice_tokens, request, run

MakeEngine = Callable[..., ToyEngine]


@pytest.fixture(params=[0, 1], ids=["one step at a time", "one step ahead"])
def toy_engine(request: pytest.FixtureRequest) -> MakeEngine:
    return functools.partial(toy.toy_engine, pipeline_depth=request.param)


def expected(prompt: list[int], count: int, seed: int = 7, choice: int = 0) -> list[int]:
    """What the toy answers, computed without an engine."""
    past = list(prompt)
    for _ in range(count):
        past.append(toy_token(past, seed, choice, VOCAB_SIZE))
    return past[len(prompt) :]


def test_an_answer_is_what_the_model_says_and_ends_at_max_tokens(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(request("a", [5, 6, 7], max_tokens=20))
    deltas, failures = run(engine.core)
    assert choice_tokens(deltas["a"]) == expected([5, 6, 7], 20)
    assert deltas["a"][-1].finish == (FinishReason.LENGTH, None)
    assert [delta.finish for delta in deltas["a"][:-1]] == [None] * 19
    assert not failures
    assert engine.blocks.num_used == 0


def test_max_tokens_is_clamped_to_the_context_and_to_the_cache(toy_engine: MakeEngine) -> None:
    for sizes in ({"max_model_len": 24}, {"num_blocks": 6}):
        engine = toy_engine(block_size=4, **sizes)
        engine.core.add(request("a", list(range(2, 12)), max_tokens=100))
        engine.core.add(request("b", list(range(2, 12)), max_tokens=None))
        deltas, _ = run(engine.core)
        for each in "ab":
            assert len(choice_tokens(deltas[each])) == 14
            assert deltas[each][-1].finish == (FinishReason.LENGTH, None)


@pytest.mark.parametrize("length", [1, 3, 4, 11, 12, 22, 23])
def test_choices_may_fill_the_whole_cache(length: int, toy_engine: MakeEngine) -> None:
    """Each fits it alone, and no copy of a block may ask for more than that."""
    engine = toy_engine(block_size=4, num_blocks=6)
    prompt = list(range(2, 2 + length))
    engine.core.add(request("a", prompt, n=3, max_tokens=None))
    deltas, failures = run(engine.core)
    assert not failures
    for choice in range(3):
        assert choice_tokens(deltas["a"], choice) == expected(prompt, 24 - length, choice=choice)
    assert engine.blocks.num_used == 0


def test_end_token_ends_and_is_not_emitted(toy_engine: MakeEngine) -> None:
    prompt = next([2, start] for start in range(2, 120) if EOS in expected([2, start], 30)[3:])
    answer = expected(prompt, 30)
    engine = toy_engine()
    engine.core.add(request("a", prompt, max_tokens=30, ignore_eos=False))
    engine.core.add(request("b", prompt, max_tokens=30, ignore_eos=True))
    engine.core.add(request("c", prompt, max_tokens=30, ignore_eos=True, stop_token_ids=[answer[2]]))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["a"]) == answer[: answer.index(EOS)]
    assert deltas["a"][-1].finish == (FinishReason.STOP, None)
    assert choice_tokens(deltas["b"]) == answer
    assert choice_tokens(deltas["c"]) == answer[: answer.index(answer[2])]
    assert deltas["c"][-1].finish == (FinishReason.STOP, answer[2])


def test_special_tokens_are_emitted_without_text_unless_asked_for(toy_engine: MakeEngine) -> None:
    prompt = next([3, start] for start in range(2, 120) if 1 in expected([3, start], 30))
    answer = expected(prompt, 30)
    engine = toy_engine()
    engine.core.add(request("hidden", prompt, max_tokens=30))
    engine.core.add(request("shown", prompt, max_tokens=30, skip_special_tokens=False))
    engine.core.add(request("this one", prompt, max_tokens=30, shown_special_tokens=[1]))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["hidden"]) == choice_tokens(deltas["shown"]) == answer
    assert b"".join(delta.data for delta in deltas["hidden"]) == bytes(each for each in answer if each > 1)
    assert b"".join(delta.data for delta in deltas["shown"]) == bytes(answer)
    assert b"".join(delta.data for delta in deltas["this one"]) == bytes(each for each in answer if each > 0)


def test_logprobs_come_with_every_emitted_token_and_are_bounded(toy_engine: MakeEngine) -> None:
    engine = toy_engine(runner=ToyRunner(4, VOCAB_SIZE))
    engine.core.add(request("a", [9, 8], max_tokens=6, logprobs=2))
    deltas, _ = run(engine.core)
    entries = [entry for delta in deltas["a"] for entry in delta.logprobs or ()]
    assert [entry.token_id for entry in entries] == expected([9, 8], 6)
    assert b"".join(entry.data for entry in entries) == b"".join(delta.data for delta in deltas["a"])
    assert all(top.data == bytes([top.token_id]) for entry in entries for top in entry.top)


def test_stop_string_cuts_the_answer_and_says_so(toy_engine: MakeEngine) -> None:
    answer = expected([40, 41], 12)
    stop = bytes(answer[4:6]).decode()
    engine = toy_engine()
    engine.core.add(request("a", [40, 41], max_tokens=12, stop=stop, skip_special_tokens=False, logprobs=1))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["a"]) == answer[:4]
    assert deltas["a"][-1].finish == (FinishReason.STOP, stop)
    assert len([entry for delta in deltas["a"] for entry in delta.logprobs or ()]) == 4
    assert engine.blocks.num_used == 0


def test_text_held_back_for_a_stop_string_is_given_out_at_the_end(toy_engine: MakeEngine) -> None:
    answer = expected([40, 41], 5)
    stop = bytes(answer[3:5]).decode()
    engine = toy_engine()
    engine.core.add(request("length", [40, 41], max_tokens=4, stop=stop, skip_special_tokens=False))
    engine.core.add(request("stop", [40, 41], max_tokens=9, stop=stop + "x", stop_token_ids=[answer[4]]))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["length"]) == answer[:4]
    assert deltas["length"][-1].finish == (FinishReason.LENGTH, None)
    assert choice_tokens(deltas["stop"]) == answer[:4]


@pytest.mark.parametrize("prefix_caching", [True, False])
@pytest.mark.parametrize("length", [1, 4, 5, 19, 20, 21])
def test_choices_share_the_prompt(prefix_caching: bool, length: int, toy_engine: MakeEngine) -> None:
    prompt = list(range(2, 2 + length))
    engine = toy_engine(prefix_caching=prefix_caching)
    engine.core.add(request("a", prompt, n=3, max_tokens=5))
    shared = 0
    deltas = []
    while engine.core.has_work:
        deltas += engine.core.step().deltas
        shared = max([shared, *(engine.blocks.references(block) for block in range(engine.blocks.num_blocks))])
    for choice in range(3):
        assert choice_tokens(deltas, choice) == expected(prompt, 5, choice=choice)
    assert shared == (3 if length > 1 else 1)
    computed = sum(batch.num_tokens for batch in engine.runner.batches)
    assert computed == len(prompt) + 2 * 1 + 3 * 4  # the prompt once, its last token for each other choice, the answers
    assert engine.blocks.num_used == 0


def test_choices_share_the_prompt_even_when_the_first_ends_with_its_first_token(toy_engine: MakeEngine) -> None:
    engine = toy_engine()
    engine.core.add(request("a", list(range(2, 12)), n=4, max_tokens=1))
    deltas, _ = run(engine.core)
    assert [choice_tokens(deltas["a"], choice) for choice in range(4)] == [
        expected(list(range(2, 12)), 1, choice=choice) for choice in range(4)
    ]


def test_a_repeated_prompt_is_served_from_the_cache_except_for_its_end(toy_engine: MakeEngine) -> None:
    prompt = list(range(2, 18))  # four whole blocks
    engine = toy_engine()
    engine.core.add(request("a", prompt, max_tokens=3))
    run(engine.core)
    engine.runner.batches.clear()
    engine.core.add(request("b", prompt, max_tokens=3))
    deltas, _ = run(engine.core)
    assert choice_tokens(deltas["b"]) == expected(prompt, 3)
    assert {delta.cached_tokens for delta in deltas["b"]} == {12}
    assert engine.runner.batches[0].num_tokens == 4
    stats = engine.core.stats
    assert (stats.prefix_cache_queries_total, stats.prefix_cache_hits_total) == (32, 12)
    assert (stats.prompt_tokens_total, stats.generation_tokens_total) == (32, 6)


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_preempted_requests_give_the_same_answers(prefix_caching: bool, toy_engine: MakeEngine) -> None:
    engine = toy_engine(num_blocks=16, max_num_batched_tokens=12, prefix_caching=prefix_caching)
    for number in range(6):
        engine.core.add(request(str(number), [2, 3, 4, 5, 6, 7, 8, number], max_tokens=30, n=2))
    deltas, failures = run(engine.core)
    assert engine.core.stats.preemptions_total > 5
    assert not failures
    for number in range(6):
        for choice in range(2):
            prompt = [2, 3, 4, 5, 6, 7, 8, number]
            assert choice_tokens(deltas[str(number)], choice) == expected(prompt, 30, choice=choice)
    assert engine.blocks.num_used == 0


def test_a_step_that_raises_fails_its_requests_only(caplog: pytest.LogCaptureFixture, toy_engine: MakeEngine) -> None:
    runner = ToyRunner(4, VOCAB_SIZE, breaks_on=lambda each: each.request_id == "bad")
    engine = toy_engine(runner=runner)
    engine.core.add(request("bad", [5, 5], max_tokens=4, n=2))
    engine.core.add(request("with", [5, 6], max_tokens=4))
    output = engine.core.step()
    assert [(each.request_id, each.kind) for each in output.failures] == [
        ("bad", "RequestFailedError"),
        ("with", "RequestFailedError"),
    ]
    # the insides of an error nobody foresaw go to the log, and the message says where to look
    assert all("toy" not in each.message and f"'{each.request_id}'" in each.message for each in output.failures)
    assert "given up: bad, with" in caplog.text
    assert "the toy is broken" in caplog.text
    engine.core.add(request("later", [5, 7], max_tokens=4))
    deltas, failures = run(engine.core)
    assert choice_tokens(deltas["later"]) == expected([5, 7], 4)
    assert not failures
    assert engine.blocks.num_used == 0


def test_unusable_logits_fail_their_request_and_cost_the_others_nothing(toy_engine: MakeEngine) -> None:
    runner = ToyRunner(4, VOCAB_SIZE, invalid_for=lambda each: each.request_id == "bad")
    engine = toy_engine(runner=runner)
    engine.core.add(request("good", [5, 6], max_tokens=4))
    engine.core.add(request("bad", [5, 5], max_tokens=4))
    deltas, failures = run(engine.core)
    assert [(each.request_id, each.kind) for each in failures] == [("bad", "InvalidLogitsError")]
    assert choice_tokens(deltas["good"]) == expected([5, 6], 4)


def test_abort_frees_everything_at_every_stage(toy_engine: MakeEngine) -> None:
    for steps in range(6):
        engine = toy_engine(max_num_batched_tokens=8)
        engine.core.add(request("a", list(range(2, 22)), max_tokens=50, n=3))
        for _ in range(steps):
            engine.core.step()
        engine.core.abort("a")
        assert run(engine.core) == ({}, [])  # what is under way may still be collected, for nobody
        assert engine.blocks.num_used == 0
        assert (engine.core.stats.running, engine.core.stats.waiting) == (0, 0)
        assert not engine.core.step().deltas


def test_requests_that_can_never_be_answered_are_refused(toy_engine: MakeEngine) -> None:
    engine = toy_engine(max_model_len=32, num_blocks=4)
    with pytest.raises(ContextLengthError):
        engine.core.add(request("long", [2] * 32))
    with pytest.raises(InvalidRequestError, match="KV cache"):
        engine.core.add(request("large", [2] * 16))
    with pytest.raises(InvalidRequestError, match="seed"):
        engine.core.add(request("seedless", [2], seed=None))
    engine.core.add(request("a", [2] * 15))
    with pytest.raises(InvalidRequestError, match="in flight"):
        engine.core.add(request("a", [2]))


class FailingRunner(ToyRunner):
    """Fails, or not, as the test says for each step in turn."""

    def __init__(self, *errors: Exception | None) -> None:
        super().__init__(4, VOCAB_SIZE)
        self._errors = iter(errors)

    def submit(self, batch: ScheduledBatch) -> ToyStep:
        error = next(self._errors, None)
        if error is not None:
            raise error
        return super().submit(batch)


def test_a_lost_device_ends_the_engine(toy_engine: MakeEngine) -> None:
    engine = toy_engine(runner=FailingRunner(None, DeviceError("The device failed: CUDA error.")))
    engine.core.add(request("a", [5, 6], max_tokens=4))
    with pytest.raises(DeviceError, match="CUDA error"):
        run(engine.core)


def test_steps_that_fail_in_a_row_end_the_engine(toy_engine: MakeEngine) -> None:
    bug = ZeroDivisionError()
    engine = toy_engine(runner=FailingRunner(bug, bug, None, None, None, None, bug, bug, bug))
    failed = []
    for number in range(5):
        engine.core.add(request(str(number), [5, 6], max_tokens=4))
        failed += [each.request_id for each in run(engine.core)[1]]
    assert failed == ["0", "1", "3", "4"]  # a step that succeeded came between
    engine.core.add(request("last", [5, 6], max_tokens=4))
    with pytest.raises(EngineDeadError, match="last 3 steps"):
        engine.core.step()


def test_requests_to_blame_for_themselves_do_not_end_the_engine(toy_engine: MakeEngine) -> None:
    runner = ToyRunner(4, VOCAB_SIZE, invalid_for=lambda each: each.request_id != "good")
    engine = toy_engine(runner=runner)
    for number in range(6):
        engine.core.add(request(str(number), [5, 6], max_tokens=4))
        assert [each.kind for each in run(engine.core)[1]] == ["InvalidLogitsError"]
    engine.core.add(request("good", [5, 6], max_tokens=4))
    assert choice_tokens(run(engine.core)[0]["good"]) == expected([5, 6], 4)
