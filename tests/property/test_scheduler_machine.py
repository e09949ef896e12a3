"""The scheduler and the block manager under anything that can happen to them, with a cache that knows what it holds.

Each slot of that cache holds every token from position 0 to its own. So a block that is written by one owner under the
eyes of another, reused too early, not copied, or found for the wrong prefix is seen by the next step that reads it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.cache.block_manager import BlockManager
from engine.scheduling.batch import ScheduledBatch, ScheduledSequence
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest
from tests.fakes.toy_engine import request

COMMON = [1, 2, 3] * 4
END = 0
MOST_TOKENS = len(COMMON) + 3 + 6  # of prompt and answer
TOKENS = st.lists(st.sampled_from([1, 2, 3, 1, 2, 3, END]), min_size=12, max_size=12)


@st.composite
def arrival(draw: st.DrawFn) -> tuple[GenerationRequest, int]:
    """A request, and how many tokens it may have; prompts begin alike."""
    what = request(
        "",
        COMMON[: draw(st.sampled_from([0, 5, 8, 12]))] + draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)),
        n=draw(st.sampled_from([1, 2, 3])),
        presence_penalty=draw(st.sampled_from([0.0, 0.0, 1.0])),
    )
    return replace(what, priority=draw(st.sampled_from([0, 0, 0, -1, 1]))), draw(st.sampled_from([6, 6, 3, 1]))


Sampled = dict[Sequence, int]


class Scheduling(RuleBasedStateMachine):
    """Steps are computed when they are submitted, and collected later."""

    @initialize(
        block_size=st.sampled_from([1, 2, 3, 4]),
        spare=st.integers(0, 3),
        max_seqs=st.sampled_from([2, 4, 8]),
        max_tokens=st.sampled_from([3, 8, 30]),
        prefix_caching=st.booleans(),
        depth=st.sampled_from([0, 1]),
    )
    def build(
        self, block_size: int, spare: int, max_seqs: int, max_tokens: int, prefix_caching: bool, depth: int
    ) -> None:
        self.blocks = BlockManager(-(-MOST_TOKENS // block_size) + spare, block_size, prefix_caching=prefix_caching)
        self.scheduler = Scheduler(self.blocks, max_num_seqs=max_seqs, max_num_batched_tokens=max_tokens)
        self.max_seqs, self.max_tokens, self.depth = max_seqs, max_tokens, depth
        self.living: dict[str, list[Sequence]] = {}
        self.number = 0
        self.slots: dict[tuple[int, int], list[int]] = {}
        self.under_way: deque[tuple[ScheduledBatch, Sampled]] = deque()
        self.latest: Sampled = {}

    # what happens

    @rule(arrivals=st.lists(arrival(), min_size=1, max_size=3))
    def add(self, arrivals: list[tuple[GenerationRequest, int]]) -> None:
        for what, max_tokens in arrivals:
            name = str(self.number)
            self.number += 1
            named = replace(what, request_id=name)
            prompt = what.prompt_token_ids
            choices = [
                Sequence(named, index, 0, list(prompt), max_tokens=max_tokens) for index in range(what.sampling.n)
            ]
            self.living[name] = choices
            self.scheduler.add(list(choices))

    @rule(tokens=TOKENS, count=st.integers(1, 5))
    def steps(self, tokens: list[int], count: int) -> None:
        for _ in range(count):
            self.step(tokens)

    def step(self, tokens: list[int]) -> None:
        """As the core does: submit as many steps as may be under way, then collect the earliest."""
        while len(self.under_way) <= self.depth:
            batch = self.schedule()
            if batch is None:
                break
            self.submit(batch, tokens)
        if self.under_way:
            self.collect()

    def next_with_copies(self, tokens: list[int], count: int) -> ScheduledBatch | None:
        """The next step, not submitted, or, if it is among the `count` after that, the next that copies blocks."""
        for _ in range(count):
            batch = self.schedule()
            if batch is None or batch.copies:
                return batch
            self.submit(batch, tokens)
            if len(self.under_way) > self.depth:
                self.collect()
        return self.schedule()

    @rule(tokens=TOKENS, count=st.integers(0, 5), blamed=st.sampled_from([0, 0, 0, 1, 9]))
    def fail_to_submit(self, tokens: list[int], count: int, blamed: int) -> None:
        """The first `blamed` requests of the step are given up; its copies have not been made."""
        batch = self.next_with_copies(tokens, count)
        if batch is not None:
            self.give_up(batch, blamed)
            self.scheduler.withdraw(batch)

    @rule(tokens=TOKENS, count=st.integers(0, 5), blamed=st.sampled_from([0, 0, 0, 1, 9]))
    def fail_to_collect(self, tokens: list[int], count: int, blamed: int) -> None:
        """All that the earliest step under way wrote, and what those after it wrote, is lost."""
        batch = self.next_with_copies(tokens, count)
        if batch is not None:
            self.submit(batch, tokens)
        if not self.under_way:
            return
        failed, _ = self.under_way.popleft()
        self.give_up(failed, blamed)
        for batch in [failed, *(each for each, _ in self.under_way)]:
            for item in batch.items:
                for position in range(item.start, item.end):
                    if not item.void:
                        self.slots[self.slot(item.sequence, position)] = []
            for copy in batch.copies:
                if self.blocks.references(copy.target) == 1:
                    self.slots.update({(copy.target, each): [] for each in range(self.blocks.block_size)})
        while self.under_way:
            self.scheduler.retract(self.under_way.pop()[0])
        self.scheduler.retract(failed)

    @precondition(lambda self: len(self.living) > 1)
    @rule(which=st.integers(0, 100))
    def abort(self, which: int) -> None:
        self.remove_request(list(self.living)[which % len(self.living)])

    @rule(oldest=st.sampled_from([0, 0, 1, 2]))
    def expire(self, oldest: int) -> None:
        """The time of several is over at once, wherever they are."""
        for name in list(self.living)[:oldest]:
            self.remove_request(name)

    # how it happens

    def schedule(self) -> ScheduledBatch | None:
        running, waiting = list(self.scheduler._running), set(self.scheduler._waiting)
        batch = self.scheduler.schedule()
        still = set(self.scheduler._running)
        kept = [each.rank for each in running if each in still]
        assert all(each.rank > max(kept, default=each.rank[:0]) for each in running if each not in still)
        admitted = [each.rank for each in still if each in waiting]
        assert not admitted or all(each.rank > max(admitted) for each in self.scheduler._waiting)
        if batch is not None:
            assert 0 < batch.num_tokens <= self.max_tokens
            assert len({item.sequence for item in batch.items}) == len(batch.items) <= self.max_seqs
        return batch

    def submit(self, batch: ScheduledBatch, tokens: list[int]) -> None:
        size = self.blocks.block_size
        read = {
            (copy.target, each): self.slots.get((copy.source, each), [])
            for copy in batch.copies
            for each in range(size)
        }
        self.slots.update(read)
        sampled: Sampled = {}
        for item, token in zip(batch.items, tokens, strict=False):
            known = [*item.sequence.token_ids, *self.in_flight(item)]
            for position in range(item.start):
                assert self.slots[self.slot(item.sequence, position)] == known[: position + 1]
            for position in range(item.start, item.end):
                slot = self.slot(item.sequence, position)
                block = self.blocks._blocks[slot[0]]
                assert block.references == 1  # nobody else reads it
                assert block.prefix_id is None  # and nobody can come to
                self.slots[slot] = known[: position + 1]
            if item.sample:
                sampled[item.sequence] = token
        self.scheduler.launch(batch)
        self.under_way.append((batch, sampled))
        self.latest = sampled

    def in_flight(self, item: ScheduledSequence) -> list[int]:
        if not item.in_flight:
            return []
        assert not item.sequence.sampling.has_penalties
        return [self.latest[item.sequence]]

    def collect(self) -> None:
        batch, sampled = self.under_way.popleft()
        self.scheduler.advance(batch)
        for item in batch.items:
            sequence = item.sequence
            if item.sample and not item.void:
                sequence.append(sampled[sequence])
                if sampled[sequence] == END or sequence.num_generated == sequence.max_tokens:
                    self.remove(sequence)

    def slot(self, sequence: Sequence, position: int) -> tuple[int, int]:
        number, offset = divmod(position, self.blocks.block_size)
        return sequence.block_table[number], offset

    def give_up(self, batch: ScheduledBatch, blamed: int) -> None:
        for name in list(dict.fromkeys(item.sequence.request.request_id for item in batch.items))[:blamed]:
            if name in self.living:
                self.remove_request(name)

    def remove_request(self, name: str) -> None:
        for sequence in list(self.living[name]):
            self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        name = sequence.request.request_id
        self.scheduler.remove(sequence)
        self.living[name].remove(sequence)
        if not self.living[name]:
            del self.living[name]

    # what always holds

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        tables = [sequence.block_table for choices in self.living.values() for sequence in choices]
        owners = Counter(block for table in tables for block in table)
        assert self.blocks.num_free + self.blocks.num_used == self.blocks.num_blocks
        assert self.blocks.num_used == len(owners)
        assert all(self.blocks.references(block) == owners[block] for block in range(self.blocks.num_blocks))

    @invariant()
    def no_more_run_than_may(self) -> None:
        assert self.scheduler.num_running <= self.max_seqs
        assert self.scheduler.num_running + self.scheduler.num_waiting == sum(map(len, self.living.values()))

    @invariant()
    def tokens_are_counted(self) -> None:
        for batch, sampled in self.under_way:
            assert {item.sequence for item in batch.items if item.sample} == set(sampled)
        for sequence in (each for choices in self.living.values() for each in choices):
            flying = [item for batch, _ in self.under_way for item in batch.items if item.sequence is sequence]
            assert sequence.num_in_flight == sum(item.sample for item in flying if not item.void)
            assert 0 <= sequence.num_computed < sequence.num_tokens

    def teardown(self) -> None:
        """With nothing new to do, everything ends, and every block is free."""
        for _ in range(2000):
            if not self.living and not self.under_way:
                break
            self.step([1] * 12)
        assert not self.living
        assert self.blocks.num_used == 0
        assert self.scheduler.schedule() is None


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=120, stateful_step_count=40)
