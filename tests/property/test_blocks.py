"""Law 1: free + used = total; no block with two owners has a count below two; truncate undoes extend."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from engine.cache.block import BlockCopy
from engine.cache.block_manager import BlockManager


class Owner:
    """A sequence as the manager sees it, and how much of it is computed."""

    def __init__(self, token_ids: list[int], block_table: list[int]) -> None:
        self.token_ids = token_ids
        self.block_table = block_table
        self.computed = 0


class Blocks(RuleBasedStateMachine):
    """Sequences over a tiny alphabet come, grow, shrink, split and go. `contents` is what each block really holds."""

    owners: Bundle[Owner] = Bundle("owners")

    @initialize(num_blocks=st.integers(1, 12), block_size=st.integers(1, 3), prefix_caching=st.booleans())
    def build(self, num_blocks: int, block_size: int, prefix_caching: bool) -> None:
        self.manager = BlockManager(num_blocks, block_size, prefix_caching=prefix_caching)
        self.living: list[Owner] = []
        self.contents: dict[int, list[int]] = {}  # every token from position 0 to the last computed in the block

    @rule(target=owners, token_ids=st.lists(st.integers(0, 1), min_size=1, max_size=16), extra=st.just(b""))
    def arrive(self, token_ids: list[int], extra: bytes) -> Owner:
        table = self.manager.take_prefix(token_ids, extra)
        size = self.manager.block_size
        assert len(table) * size < len(token_ids)
        for number, block in enumerate(table):
            assert self.contents[block] == token_ids[: (number + 1) * size]
        owner = Owner(token_ids, table)
        owner.computed = len(table) * size
        self.living.append(owner)
        return owner

    @rule(owner=owners)
    def compute(self, owner: Owner) -> None:
        free_before, needed = self.manager.num_free, self.manager.blocks_for(len(owner.token_ids))
        missing, used_before = max(0, needed - len(owner.block_table)), self.manager.num_used
        before = list(owner.block_table)
        copies = self.manager.reserve(owner.block_table, owner.computed, len(owner.token_ids))
        if copies is None:
            assert owner.block_table == before
            assert missing + 1 > free_before  # at most one block is both shared and not full
            assert self.manager.num_free == free_before
        else:
            self.copy(copies)
            assert self.manager.num_used <= used_before + missing + len(copies)
            size = self.manager.block_size
            for number in range(owner.computed // size, needed):
                block = owner.block_table[number]
                assert self.manager.references(block) == 1
                assert number > owner.computed // size or self.holds(block, owner.token_ids[: owner.computed])
                self.contents[block] = owner.token_ids[: (number + 1) * size]
            self.manager.index(owner.token_ids, owner.block_table, owner.computed, len(owner.token_ids))
            owner.computed = len(owner.token_ids)

    @rule(owner=owners, token_ids=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def grow(self, owner: Owner, token_ids: list[int]) -> None:
        owner.token_ids = owner.token_ids + token_ids

    @rule(owner=owners, more=st.integers(0, 10))
    def truncate_undoes_extend(self, owner: Owner, more: int) -> None:
        table, free = list(owner.block_table), self.manager.num_free
        covered = len(table) * self.manager.block_size
        if self.manager.reserve(owner.block_table, covered, covered + more) is not None:
            self.manager.truncate(owner.block_table, covered)
        assert owner.block_table == table
        assert self.manager.num_free == free

    @rule(target=owners, owner=owners)
    def fork(self, owner: Owner) -> Owner:
        table = self.manager.fork(owner.block_table, owner.computed)
        child = Owner(owner.token_ids, table)
        child.computed = owner.computed
        self.living.append(child)
        return child

    def copy(self, copies: list[BlockCopy]) -> None:
        read = {copy.target: self.contents[copy.source] for copy in copies if copy.source in self.contents}
        self.contents.update(read)

    def holds(self, block: int, token_ids: list[int]) -> bool:
        """Whether the part of these tokens that falls into the block they end in stands there."""
        size = self.manager.block_size
        return len(token_ids) % size == 0 or self.contents[block][: len(token_ids)] == token_ids

    @rule(owner=consumes(owners))
    def leave(self, owner: Owner) -> None:
        self.manager.free(owner.block_table)
        assert owner.block_table == []
        self.living.remove(owner)

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        counts = Counter(block for owner in self.living for block in owner.block_table)
        assert self.manager.num_used == len(counts)
        assert self.manager.num_free + self.manager.num_used == self.manager.num_blocks
        for block in range(self.manager.num_blocks):
            assert self.manager.references(block) == counts[block]

    @invariant()
    def what_is_computed_stays(self) -> None:
        size = self.manager.block_size
        for owner in self.living:
            for number in range(owner.computed // size):
                assert self.contents[owner.block_table[number]] == owner.token_ids[: (number + 1) * size]
            assert owner.computed % size == 0 or self.holds(
                owner.block_table[owner.computed // size], owner.token_ids[: owner.computed]
            )


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=80, stateful_step_count=40)
