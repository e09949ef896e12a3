"""Which cached block holds which prompt beginning.

Entries are chained: a block is found under (what comes before it, its own tokens). The dict hashes that key and, on a
hit, compares it, so the tokens of the block are verified. What comes before is not a hash either but the id of one
verified entry, never given twice, so by induction a hit proves that every token from position 0 on is equal: a hash
collision can cost time but never serve another prompt's keys and values.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Sequence

from engine.cache.block import Block, PrefixKey

_TOKEN = "I"
_TOKEN_BYTES = struct.calcsize(_TOKEN)


class PrefixIndex:
    """Finds full blocks by the tokens that lead up to and fill them."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._blocks: dict[PrefixKey, Block] = {}
        self._ids = itertools.count()

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, token_ids: Sequence[int], num_blocks: int, extra: bytes) -> list[Block]:
        """Blocks that hold the first tokens, in order, at most `num_blocks`, up to the first that is not known."""
        found: list[Block] = []
        known = self._blocks
        if not known:
            return found
        packed = _pack(token_ids[: num_blocks * self._block_size])
        parent: int | bytes | None = extra
        for (tokens,) in struct.iter_unpack(f"{_TOKEN_BYTES * self._block_size}s", packed):
            block = known.get((parent, tokens))
            if block is None:
                break
            found.append(block)
            parent = block.prefix_id
        return found

    def insert(self, block: Block, parent: Block | None, token_ids: Sequence[int], number: int, extra: bytes) -> None:
        """Remember that `block` holds run `number` of `token_ids`, after `parent` (None for the first run).

        Where another block is known for the same prefix it stays the one that is handed out; `block` only takes over
        its id, so that what follows is found under either.
        """
        above = extra if parent is None else parent.prefix_id
        if above is None:
            return  # the block before was never indexed, so this one could not be found
        start = number * self._block_size
        key = (above, _pack(token_ids[start : start + self._block_size]))
        known = self._blocks.get(key)
        if known is not None:
            block.prefix_id = known.prefix_id
            return
        block.prefix_id = next(self._ids)
        block.key = key
        self._blocks[key] = block

    def remove(self, block: Block) -> None:
        """Forget `block`. Blocks that follow it can no longer be found and age out of the cache."""
        if block.key is not None:
            del self._blocks[block.key]
        block.key = None
        block.prefix_id = None


def _pack(token_ids: Sequence[int]) -> bytes:
    """Bytes are hashed and compared several times as fast as tuples of integers.

    An array of unsigned integers is made of a list in less than half the time `struct.pack` or a signed one takes.
    """
    return array(_TOKEN, token_ids).tobytes()
