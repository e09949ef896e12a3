"""The made-up largest step respects every bound and reaches the tightest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.execution.warm_up import largest_step

sizes = st.integers(1, 70)


@given(max_tokens=sizes, max_seqs=sizes, max_len=sizes, num_blocks=sizes, block_size=st.integers(1, 16))
def test_within_all_bounds(max_tokens: int, max_seqs: int, max_len: int, num_blocks: int, block_size: int) -> None:
    step = largest_step(max_tokens, max_seqs, max_len, num_blocks, block_size)

    assert len(step.items) == min(max_tokens, max_seqs, num_blocks)
    assert step.num_tokens <= max_tokens
    owned = [block for item in step.items for block in item.sequence.block_table]
    assert len(owned) == len(set(owned))
    assert set(owned) <= set(range(num_blocks))
    for item in step.items:
        assert item.sample
        assert 1 <= item.num_tokens == len(item.sequence.token_ids) <= max_len
        assert len(item.sequence.block_table) * block_size >= item.num_tokens


def test_the_whole_budget_is_used_where_nothing_else_is_tighter() -> None:
    step = largest_step(max_tokens=100, max_seqs=7, max_len=50, num_blocks=70, block_size=4)

    assert step.num_tokens == 100
    assert len(step.items) == 7
