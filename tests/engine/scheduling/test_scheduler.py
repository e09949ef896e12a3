"""The order of things: budget, admission, preemption, choices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.cache.block_manager import BlockManager
from engine.errors import CapacityError
from engine.scheduling.batch import ScheduledBatch
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from engine.scheduling.waiting import WaitReason
from tests.fakes.toy_engine import request


def make(num_prompt: int, name: str = "a", choices: int = 1, priority: int = 0) -> list[Sequence]:
    what = replace(request(name, list(range(num_prompt)), n=choices), priority=priority)
    return [Sequence(what, index, 0, list(what.prompt_token_ids)) for index in range(choices)]


def scheduler(
    num_blocks: int = 100,
    *,
    seqs: int = 8,
    tokens: int = 16,
    prefix_caching: bool = False,
    counts_in_flight: bool = False,
) -> Scheduler:
    blocks = BlockManager(num_blocks, 4, prefix_caching=prefix_caching)
    return Scheduler(blocks, max_num_seqs=seqs, max_num_batched_tokens=tokens, counts_in_flight=counts_in_flight)


def step(queue: Scheduler) -> list[tuple[str, int, int, bool]]:
    """One step as (request, start, tokens, sample) of each share; every sampled token is 99."""
    batch = queue.schedule()
    if batch is None:
        return []
    queue.launch(batch)
    queue.advance(batch)
    for item in batch.items:
        if item.sample:
            item.sequence.append(99)
    return [(item.sequence.request.request_id, item.start, item.num_tokens, item.sample) for item in batch.items]


def test_decodes_first_then_a_chunk_of_the_next_prompt() -> None:
    queue = scheduler(tokens=10)
    queue.add(make(4, "a"))
    assert step(queue) == [("a", 0, 4, True)]
    queue.add(make(20, "b"))
    assert step(queue) == [("a", 4, 1, True), ("b", 0, 9, False)]
    queue.add(make(2, "c"))
    assert step(queue) == [("a", 5, 1, True), ("b", 9, 9, False)]
    assert step(queue) == [("a", 6, 1, True), ("b", 18, 2, True), ("c", 0, 2, True)]


def test_no_more_run_than_allowed_nor_than_the_budget_has_tokens() -> None:
    for limits in ({"seqs": 2, "tokens": 16}, {"seqs": 8, "tokens": 2}):
        queue = scheduler(**limits)
        for name in "abc":
            queue.add(make(1, name))
        assert [share[0] for share in step(queue)] == ["a", "b"]
        assert [share[0] for share in step(queue)] == ["a", "b"]
        assert (queue.num_running, queue.num_waiting) == (2, 1)


def test_the_youngest_makes_room_and_comes_back_with_its_tokens() -> None:
    queue = scheduler(num_blocks=3)
    old, young = make(4, "old")[0], make(4, "young")[0]
    queue.add([old])
    queue.add([young])
    queue.add(make(1, "waiting"))
    assert [share[0] for share in step(queue)] == ["old", "young", "waiting"]
    assert [share[0] for share in step(queue)] == ["old"]  # takes what `waiting`, then nothing is left for `young`
    assert queue.preemptions == 2
    assert young.token_ids == [0, 1, 2, 3, 99]
    assert young.block_table == []
    queue.remove(old)
    assert step(queue) == [("young", 0, 5, True), ("waiting", 0, 2, True)]


def test_first_come_first_served_even_if_a_later_one_would_fit() -> None:
    queue = scheduler(num_blocks=4)
    queue.add(make(8, "a"))
    queue.add(make(12, "large"))
    queue.add(make(1, "small"))
    assert [share[0] for share in step(queue)] == ["a"]
    assert queue.num_waiting == 2


def test_a_sequence_that_must_wait_holds_nothing() -> None:
    queue = scheduler(num_blocks=5, prefix_caching=True)
    queue.add(make(8, "a"))
    step(queue)
    waiting = make(20, "b")[0]
    queue.add([waiting])
    assert [share[0] for share in step(queue)] == ["a"]
    assert waiting.block_table == []
    assert waiting.num_computed == 0


def test_choices_wait_for_the_prompt_then_go_ahead_of_younger_requests() -> None:
    queue = scheduler(tokens=8)
    queue.add(make(10, "n", choices=3))
    queue.add(make(1, "later"))
    assert step(queue) == [("n", 0, 8, False)]
    assert queue.num_waiting == 3
    assert step(queue) == [("n", 8, 2, True), ("later", 0, 1, True)]
    assert step(queue) == [("n", 10, 1, True), ("later", 1, 1, True), ("n", 9, 1, True), ("n", 9, 1, True)]


def test_waiting_choices_give_up_the_prompt_when_nothing_else_is_left() -> None:
    queue = scheduler(num_blocks=4, seqs=1)
    first, second = make(12, "n", choices=2)
    queue.add([first, second])
    assert step(queue) == [("n", 0, 12, True)]
    assert len(second.block_table) == 3
    queue.remove(first)
    large = make(15, "large", priority=-1)[0]
    queue.add([large])
    assert step(queue) == [("large", 0, 15, True)]
    assert second.block_table == []
    queue.remove(large)
    assert step(queue) == [("n", 0, 12, True)]


def test_a_sequence_larger_than_the_cache_is_an_error_and_no_endless_loop() -> None:
    queue = scheduler(num_blocks=2)
    queue.add(make(9))
    with pytest.raises(CapacityError, match="kv_cache_tokens"):
        queue.schedule()


def test_removing_works_wherever_a_sequence_is() -> None:
    queue = scheduler(seqs=1)
    running, waiting = make(3, "a", choices=2), make(3, "b", choices=2)
    queue.add(running)
    queue.add(waiting)
    step(queue)
    for sequence in (*waiting, *running):
        queue.remove(sequence)
        queue.remove(sequence)
    assert (queue.num_running, queue.num_waiting) == (0, 0)
    assert queue.schedule() is None


def test_batch_counts_its_tokens() -> None:
    queue = scheduler()
    queue.add(make(3, "a"))
    queue.add(make(5, "b"))
    batch = queue.schedule()
    assert isinstance(batch, ScheduledBatch)
    assert batch.num_tokens == 8


def test_the_more_important_goes_first_and_equals_in_order_of_arrival() -> None:
    queue = scheduler(tokens=4, seqs=2)
    for name, priority in (("late", 5), ("b", 0), ("c", 0), ("first", -3)):
        queue.add(make(2, name, priority=priority))
    assert [share[0] for share in step(queue)] == ["first", "b"]
    assert queue.num_waiting == 2


def test_an_important_prompt_goes_ahead_of_a_long_one_under_way_but_never_of_a_decode() -> None:
    queue = scheduler(tokens=6)
    queue.add(make(2, "decodes", priority=9))
    step(queue)
    queue.add(make(40, "long", priority=5))
    assert step(queue) == [("decodes", 2, 1, True), ("long", 0, 5, False)]
    queue.add(make(4, "urgent", priority=1))
    taken = step(queue)
    assert [share[0] for share in taken] == ["decodes", "urgent", "long"]
    assert [share[2] for share in taken] == [1, 4, 1]


def test_the_least_important_youngest_makes_room() -> None:
    queue = scheduler(num_blocks=3)
    for name, priority in (("low", 1), ("high", 0), ("lower", 1)):
        queue.add(make(4, name, priority=priority))
    assert [share[0] for share in step(queue)] == ["high", "low", "lower"]
    assert [share[0] for share in step(queue)] == ["high"]  # takes what `lower` had, then nothing is left for `low`
    assert queue.preemptions == 2


def test_a_preempted_sequence_stands_before_those_that_came_later() -> None:
    queue = scheduler(num_blocks=2, seqs=2)
    queue.add(make(4, "a"))
    queue.add(make(4, "b"))
    step(queue)
    queue.add(make(1, "c"))
    assert [share[0] for share in step(queue)] == ["a"]
    assert [each.request.request_id for each in queue._waiting] == ["b", "c"]


def waiting(queue: Scheduler) -> dict[str, int]:
    return {reason.value: count for reason in WaitReason if (count := queue.num_waiting_for(reason))}


def test_why_sequences_wait() -> None:
    queue = scheduler(seqs=1)
    queue.add(make(1, "a"))
    queue.add(make(1, "b"))
    step(queue)
    assert waiting(queue) == {"batch": 1}

    queue = scheduler(num_blocks=2)
    queue.add(make(4, "a"))
    queue.add(make(8, "b"))
    queue.add(make(1, "c"))
    step(queue)
    assert waiting(queue) == {"cache": 2}

    queue = scheduler(tokens=4)
    queue.add(make(6, "a", choices=3))
    queue.add(make(1, "b"))
    step(queue)
    assert waiting(queue) == {"budget": 1, "prompt": 2}
    assert queue.num_waiting == 3


Share = tuple[str, int, int, bool]


def submit(queue: Scheduler) -> tuple[ScheduledBatch, list[Share]]:
    """A step that is not collected yet, and (request, start, tokens, in flight) of each share."""
    batch = queue.schedule()
    assert batch is not None
    queue.launch(batch)
    return batch, [
        (each.sequence.request.request_id, each.start, each.num_tokens, each.in_flight) for each in batch.items
    ]


def collect(queue: Scheduler, batch: ScheduledBatch) -> None:
    queue.advance(batch)
    for item in batch.items:
        if item.sample and not item.void:
            item.sequence.append(99)


def test_a_step_counts_on_those_under_way() -> None:
    queue = scheduler(tokens=6)
    (sequence,) = make(8, "a")
    queue.add([sequence])
    first, shares = submit(queue)
    assert shares == [("a", 0, 6, False)]
    second, shares = submit(queue)
    assert shares == [("a", 6, 2, False)]
    third, shares = submit(queue)
    assert shares == [("a", 8, 1, True)]
    assert (sequence.num_tokens, sequence.num_in_flight, len(sequence.token_ids)) == (10, 2, 8)
    for batch in (first, second, third):
        collect(queue, batch)
    assert (sequence.num_tokens, sequence.num_in_flight, sequence.num_computed) == (10, 0, 9)


def test_a_sequence_that_must_know_its_token_sits_out_and_keeps_its_place_in_the_budget() -> None:
    queue = scheduler(tokens=4)
    what = request("knows", [1, 2], presence_penalty=1.0)
    queue.add([Sequence(what, 0, 0, [1, 2])])
    first, _ = submit(queue)
    queue.add(make(9, "long"))
    _, shares = submit(queue)
    assert shares == [("long", 0, 3, False)]
    collect(queue, first)
    assert submit(queue)[1] == [("knows", 2, 1, False), ("long", 3, 3, False)]


def test_penalties_wait_for_no_token_where_the_runner_counts_it() -> None:
    queue = scheduler(counts_in_flight=True)
    queue.add([Sequence(request("counted", [1, 2], presence_penalty=1.0), 0, 0, [1, 2])])
    submit(queue)
    assert submit(queue)[1] == [("counted", 2, 1, True)]


@pytest.mark.parametrize("counts_in_flight", [False, True])
def test_nothing_is_computed_after_the_last_token(counts_in_flight: bool) -> None:
    queue = scheduler(counts_in_flight=counts_in_flight)
    queue.add([Sequence(request("a", [1, 2]), 0, 0, [1, 2], max_tokens=2)])
    submit(queue)
    assert submit(queue)[1] == [("a", 2, 1, True)]
    assert queue.schedule() is None


def test_what_steps_under_way_did_for_a_preempted_sequence_is_void() -> None:
    queue = scheduler(num_blocks=2, prefix_caching=True)
    old, young = make(4, "old")[0], make(4, "young")[0]
    queue.add([old])
    queue.add([young])
    first, _ = submit(queue)
    second, shares = submit(queue)  # `old` needs the block that `young` has
    assert shares == [("old", 4, 1, True)]
    assert (young.num_in_flight, young.num_computed, young.block_table) == (0, 0, [])
    collect(queue, first)
    collect(queue, second)
    assert (old.token_ids[4:], young.token_ids[4:]) == ([99, 99], [])
    assert queue._blocks.take_prefix([*range(4), 0]) == old.block_table[:1]  # what `young` had is not indexed


def test_steps_that_rest_on_a_failed_one_are_computed_again() -> None:
    queue = scheduler(tokens=6)
    queue.add(make(2, "a"))
    queue.add(make(5, "b"))
    batches = [submit(queue)[0] for _ in range(3)]
    for batch in reversed(batches):
        queue.retract(batch)
    assert [shares for _, shares in (submit(queue) for _ in range(3))] == [
        [("a", 0, 2, False), ("b", 0, 4, False)],
        [("a", 2, 1, True), ("b", 4, 1, False)],
        [("a", 3, 1, True), ("b", 5, 1, True)],
    ]


def test_choices_share_the_last_block_until_they_write_to_it() -> None:
    queue = scheduler()
    choices = make(6, "n", choices=3)
    queue.add(choices)
    step(queue)
    shared = choices[0].block_table[1]
    assert choices[1].block_table == choices[2].block_table == choices[0].block_table
    batch, shares = submit(queue)
    assert [share[1:3] for share in shares] == [(6, 1), (5, 1), (5, 1)]
    assert batch.copies == ((shared, choices[0].block_table[1]), (shared, choices[1].block_table[1]))
    assert choices[2].block_table[1] == shared  # the last of them keeps it


def test_what_a_step_was_to_copy_is_computed_again_when_it_fails() -> None:
    for launched in (False, True):
        queue = scheduler()
        choices = make(6, "n", choices=2)
        queue.add(choices)
        step(queue)
        failing = queue.schedule()
        assert failing is not None
        assert len(failing.copies) == 1
        if launched:
            queue.launch(failing)
            queue.retract(failing)
        else:
            queue.withdraw(failing)
        assert all(item.void for item in failing.items[:1])
        batch, shares = submit(queue)
        assert shares == [("n", 5, 1, False), ("n", 4, 3, False)]  # what was to be copied begins at 4
        assert batch.copies == ()


def test_copies_too_are_paid_for_with_blocks_of_the_last_in_rank() -> None:
    queue = scheduler(num_blocks=3)
    choices = make(6, "n", choices=2)
    queue.add(choices)
    queue.add(make(1, "young"))
    assert step(queue) == [("n", 0, 6, True), ("young", 0, 1, True)]
    assert step(queue) == [("n", 6, 1, True), ("n", 5, 1, True)]
    assert queue.preemptions == 1


def test_a_preempted_sequence_takes_its_full_blocks_again() -> None:
    queue = scheduler(num_blocks=5, prefix_caching=True)
    old, young = make(7, "old")[0], Sequence(request("young", [9] * 7), 0, 0, [9] * 7)
    queue.add([old])
    queue.add([young])
    for _ in range(2):
        step(queue)
    kept = list(young.block_table)
    assert [share[:2] for share in step(queue)] == [("old", 8)]  # takes the last block
    assert (queue.preemptions, young.block_table) == (1, [])
    queue.remove(old)
    assert step(queue) == [("young", 8, 1, True)]
    assert young.block_table[:2] == kept[:2]
    assert queue.prefix_hits == 0  # a return is no hit


def test_blocks_of_a_preempted_sequence_are_kept_as_far_as_nobody_needs_them() -> None:
    queue = scheduler(num_blocks=4, prefix_caching=True)
    old, young = make(4, "old")[0], Sequence(request("young", [9] * 8), 0, 0, [9] * 8)
    queue.add([old])
    queue.add([young])
    step(queue)
    assert [share[0] for share in step(queue)] == ["old"]  # takes the free block; nothing is left for `young`
    while old.num_tokens < 11:
        step(queue)
    queue.remove(old)
    assert step(queue)[0][:2] == ("young", 4)  # its second block went to `old`, its first is there still
