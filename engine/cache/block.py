"""A cache block as the block manager sees it: a number, its owners, and the tokens it is known to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PrefixKey = tuple[int | bytes | None, bytes]
"""What a full block holds: its tokens, packed as 32-bit integers, after everything its parent stands for.

The parent is the prefix id of the block before it, or for the first block of a sequence the bytes that set apart
prefixes of equal tokens but different keys and values (adapter, image, KV format, salt). No block is known under None,
which stands for a block that has no id.
"""


class BlockCopy(NamedTuple):
    """What `source` holds is to be in `target`, too, before anything of the step is written."""

    source: int
    target: int


@dataclass(slots=True, eq=False)
class Block:
    """One block of the KV cache.

    Attributes:
        index: its place in the cache tensors.
        references: sequences whose block table holds it.
        prefix_id: names the token sequence from position 0 to this block's end; None until that is computed.
        key: its entry in the prefix index, if it is the block handed out for that prefix.
    """

    index: int
    references: int = 0
    prefix_id: int | None = None
    key: PrefixKey | None = None

    @property
    def writable(self) -> bool:
        """Whether a table that holds it may write to it: nobody else does, and its tokens have not been indexed."""
        return self.references == 1 and self.prefix_id is None
