"""Model input built from scheduled steps, against what the contract of AttentionBatch and ForwardBatch says."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.execution.batch_builder import BatchBuilder
from engine.scheduling.batch import ScheduledBatch, ScheduledSequence
from tests.engine.execution.steps import share

CPU = torch.device("cpu")


def builder(block_size: int = 4) -> BatchBuilder:
    return BatchBuilder(max_tokens=64, max_seqs=8, max_blocks=16, block_size=block_size, device=CPU)


def test_a_prefill_chunk_and_a_decode() -> None:
    prefill = share(list(range(100, 110)), 3, 4, [7, 2, 9])
    decode = share([50, 51, 52, 53, 54], 4, 1, [1, 5], sample=True)

    built = builder().build(ScheduledBatch((prefill, decode)), {})

    assert built.forward.token_ids.tolist() == [103, 104, 105, 106, 54]
    assert built.forward.positions.tolist() == [3, 4, 5, 6, 4]
    assert built.forward.logit_rows.tolist() == [4]
    assert built.attention.query_start.tolist() == [0, 4, 5]
    assert built.attention.context_lens.tolist() == [7, 5]
    assert built.attention.block_tables.tolist() == [[7, 2], [1, 5]]
    assert built.attention.slots.tolist() == [7 * 4 + 3, 2 * 4, 2 * 4 + 1, 2 * 4 + 2, 5 * 4]


def test_shorter_tables_are_padded_and_buffers_hold_nothing_of_earlier_steps() -> None:
    make = builder()
    make.build(ScheduledBatch((share(list(range(12)), 0, 12, [9, 9, 9], sample=True),) * 2), {})

    built = make.build(ScheduledBatch((share([1], 0, 1, [3]), share(list(range(6)), 5, 1, [4, 6]))), {})

    assert built.attention.block_tables.tolist() == [[3, 0], [4, 6]]
    assert built.forward.logit_rows.tolist() == []


def test_a_token_in_flight_is_taken_from_those_given() -> None:
    known = share([50, 51], 1, 1, [1], sample=True)
    ahead = share([60, 61, 62], 3, 1, [2], sample=True)
    ahead = ScheduledSequence(ahead.sequence, 3, 1, sample=True, in_flight=True)

    built = builder().build(ScheduledBatch((known, ahead)), {ahead.sequence: 77, known.sequence: 88})

    assert built.forward.token_ids.tolist() == [51, 77]
    assert built.forward.positions.tolist() == [1, 3]


def test_the_buffers_are_reused() -> None:
    make = builder()
    step = ScheduledBatch((share([1, 2], 0, 2, [0], sample=True),))

    first, second = make.build(step, {}), make.build(step, {})

    assert first.forward.token_ids.data_ptr() == second.forward.token_ids.data_ptr()
    assert first.attention.block_tables.data_ptr() == second.attention.block_tables.data_ptr()


@st.composite
def scheduled(draw: st.DrawFn) -> ScheduledBatch:
    items: list[ScheduledSequence] = []
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(1, 48))
        start = draw(st.integers(max(0, length - 8), length - 1))
        tokens = draw(st.lists(st.integers(0, 9999), min_size=length, max_size=length))
        blocks = draw(st.lists(st.integers(0, 500), min_size=16, max_size=16))
        items.append(share(tokens, start, length - start, blocks, sample=draw(st.booleans())))
    return ScheduledBatch(tuple(items))


@settings(max_examples=60)
@given(batch=scheduled(), block_size=st.sampled_from([3, 4, 16]))
def test_every_token_stands_where_the_contract_says(batch: ScheduledBatch, block_size: int) -> None:
    built = builder(block_size).build(batch, {})

    tensors = [
        *(built.forward.token_ids, built.forward.positions, built.forward.logit_rows),
        *(built.attention.query_start, built.attention.context_lens),
        *(built.attention.block_tables, built.attention.slots),
    ]
    assert all(each.dtype == torch.int32 and each.is_contiguous() for each in tensors)
    wanted_rows = []
    for index, item in enumerate(batch.items):
        first, end = built.attention.query_start[index : index + 2].tolist()
        assert end - first == item.num_tokens
        assert built.attention.context_lens[index] == item.start + item.num_tokens
        if item.sample:
            wanted_rows.append(end - 1)
        for row, position in zip(range(first, end), range(item.start, item.start + item.num_tokens), strict=True):
            block = item.sequence.block_table[position // block_size]
            assert built.forward.token_ids[row] == item.sequence.token_ids[position]
            assert built.forward.positions[row] == position
            assert built.attention.slots[row] == block * block_size + position % block_size
            assert built.attention.block_tables[index, position // block_size] == block
    assert built.forward.logit_rows.tolist() == wanted_rows
