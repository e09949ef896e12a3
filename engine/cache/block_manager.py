"""Who owns which block of the KV cache. Host-side bookkeeping only: no tensors, no torch.

Tables share blocks as long as they only read them: those of equal prompt beginnings, and of several choices' prompt all
to its last token. Who must write to a shared block gets a copy of its own first (*copy on write*).

A block is *used* (in some block table), *cached* (in none, but its tokens are indexed and may be asked for again) or
*empty*. Cached blocks count as free: they are given away, least recently used first, when no empty one is left.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.cache.block import Block, BlockCopy
from engine.cache.prefix_index import PrefixIndex


class BlockManager:
    """Hands out blocks to block tables, with reference counts and reuse of equal prompt beginnings.

    A block table is a plain list of block numbers: entry i holds positions `i * block_size … (i + 1) * block_size - 1`
    of one sequence. The manager appends to and cuts the lists it is given and keeps none of them.

    Args:
        num_blocks: blocks in the cache.
        block_size: tokens per block.
        prefix_caching: whether to index full blocks; without it `take_prefix` finds nothing.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._blocks = [Block(index) for index in range(num_blocks)]
        self._empty = list(reversed(self._blocks))
        self._cached: dict[Block, None] = {}  # an ordered set, least recently used first
        self._index = PrefixIndex(block_size)

    @property
    def num_blocks(self) -> int:
        """Blocks in the cache."""
        return len(self._blocks)

    @property
    def num_free(self) -> int:
        """Blocks that no table holds; some of them may be found again by their tokens."""
        return len(self._empty) + len(self._cached)

    @property
    def num_used(self) -> int:
        """Blocks that some table holds."""
        return self.num_blocks - self.num_free

    def references(self, index: int) -> int:
        """How many tables hold block `index`."""
        return self._blocks[index].references

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` positions need."""
        return -(-num_tokens // self.block_size)

    def take_prefix(self, token_ids: Sequence[int], extra: bytes = b"") -> list[int]:
        """A new table with the cached blocks that hold the longest beginning of `token_ids`.

        At least the last token is left out, for its logits are what a step is for. `extra` must equal that given to
        `index` when the blocks were computed.
        """
        most = (len(token_ids) - 1) // self.block_size
        found = self._index.find(token_ids, most, extra)
        cached = self._cached
        for block in found:  # as `_acquire` does, without a call for each: there may be thousands
            cached.pop(block, None)
            block.references += 1
        return [block.index for block in found]

    def fork(self, block_table: Sequence[int], num_tokens: int) -> list[int]:
        """A new table that shares the blocks of the first `num_tokens` positions; the last may be filled in part."""
        return [self._acquire(self._blocks[index]) for index in block_table[: self.blocks_for(num_tokens)]]

    def reserve(self, block_table: list[int], start: int, end: int) -> list[BlockCopy] | None:
        """Make positions `start … end - 1` writable; all of them or, where too few blocks are free, nothing.

        Blocks are appended as far as the table does not reach, and those it shares are replaced.

        Returns:
            For each replaced block, what must be copied before anything is written; None if too few blocks are free.
        """
        needed = self.blocks_for(end)
        held = range(start // self.block_size, min(needed, len(block_table)))
        shared = [number for number in held if not self._blocks[block_table[number]].writable]
        missing = max(needed - len(block_table), 0)
        if len(shared) + missing > self.num_free:
            return None
        copies = [self._replace(block_table, number) for number in shared]
        block_table.extend(self._acquire(self._next_free()) for _ in range(missing))
        return copies

    def truncate(self, block_table: list[int], num_tokens: int) -> None:
        """Give back the blocks beyond those that `num_tokens` positions need."""
        keep = self.blocks_for(num_tokens)
        # last block first: a prompt's beginning is the likeliest part to be asked for again, so it ages last
        for index in reversed(block_table[keep:]):
            self._release(self._blocks[index])
        del block_table[keep:]

    def free(self, block_table: list[int]) -> None:
        """Give back every block of the table, and empty it."""
        self.truncate(block_table, 0)

    def index(
        self, token_ids: Sequence[int], block_table: Sequence[int], start: int, end: int, extra: bytes = b""
    ) -> None:
        """Make the blocks that positions `start … end - 1` have filled findable. Their keys and values are computed."""
        if not self.prefix_caching:
            return
        for number in range(start // self.block_size, end // self.block_size):
            block = self._blocks[block_table[number]]
            if block.prefix_id is None:
                parent = self._blocks[block_table[number - 1]] if number else None
                self._index.insert(block, parent, token_ids, number, extra)

    def _replace(self, block_table: list[int], number: int) -> BlockCopy:
        source = block_table[number]
        block_table[number] = self._acquire(self._next_free())
        self._release(self._blocks[source])
        return BlockCopy(source, block_table[number])

    def _next_free(self) -> Block:
        if self._empty:
            return self._empty.pop()
        oldest = next(iter(self._cached))
        del self._cached[oldest]
        self._index.remove(oldest)
        return oldest

    def _acquire(self, block: Block) -> int:
        self._cached.pop(block, None)
        block.references += 1
        return block.index

    def _release(self, block: Block) -> None:
        block.references -= 1
        if block.references:
            return
        if block.key is not None:
            self._cached[block] = None
        else:
            block.prefix_id = None
            self._empty.append(block)
