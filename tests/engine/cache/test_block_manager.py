"""Prefix reuse and its order of forgetting."""

from __future__ import annotations

import sys

from engine.cache.block_manager import BlockManager


def computed(manager: BlockManager, token_ids: list[int], extra: bytes = b"") -> list[int]:
    """A table for `token_ids`, all of them computed."""
    table = manager.take_prefix(token_ids, extra)
    start = len(table) * manager.block_size
    assert manager.reserve(table, start, len(token_ids)) == []
    manager.index(token_ids, table, start, len(token_ids), extra)
    return table


def test_full_blocks_are_shared_and_the_last_token_never_is() -> None:
    manager = BlockManager(8, 2)
    first = computed(manager, [1, 2, 3, 4])
    assert manager.take_prefix([1, 2, 3, 4]) == first[:1]
    assert manager.take_prefix([1, 2, 3, 4, 5]) == first
    assert manager.references(first[0]) == 3


def test_only_computed_tokens_are_found() -> None:
    manager = BlockManager(8, 2)
    table: list[int] = []
    manager.reserve(table, 0, 6)
    manager.index([1, 2, 3, 4, 5, 6], table, 0, 3)
    assert manager.take_prefix([1, 2, 3, 4, 5, 6]) == table[:1]


def test_equal_tokens_after_a_different_beginning_are_not_confused() -> None:
    manager = BlockManager(8, 2)
    computed(manager, [1, 1, 9, 9])
    assert len(manager.take_prefix([2, 2, 9, 9, 9])) == 0
    assert len(manager.take_prefix([9, 9, 9, 9, 9])) == 0


def test_extra_bytes_keep_prefixes_apart() -> None:
    manager = BlockManager(8, 2)
    computed(manager, [1, 2, 3], b"adapter")
    assert manager.take_prefix([1, 2, 3]) == []
    assert manager.take_prefix([1, 2, 3], b"other") == []
    assert len(manager.take_prefix([1, 2, 3], b"adapter")) == 1


def test_colliding_hashes_are_told_apart() -> None:
    ids = [0, sys.hash_info.modulus, 1]
    assert hash(ids[0]) == hash(ids[1]), "CPython gives these two the same hash; the test needs such a pair"
    manager = BlockManager(8, 1)
    manager._index._ids = iter(ids)  # type: ignore[assignment]
    computed(manager, [1])
    computed(manager, [2])
    computed(manager, [1, 5])
    assert len(manager.take_prefix([2, 5, 9])) == 1
    assert len(manager.take_prefix([1, 5, 9])) == 2


def test_least_recently_used_goes_first_and_a_prompts_end_before_its_beginning() -> None:
    manager = BlockManager(4, 2)
    old = computed(manager, [1, 1, 2, 2])
    new = computed(manager, [3, 3, 4, 4])
    manager.free(old)
    manager.free(new)
    again = manager.take_prefix([1, 1, 0])  # used again, so now the most recent of all
    manager.free(again)
    table: list[int] = []
    manager.reserve(table, 0, 4)
    assert len(manager.take_prefix([1, 1, 2, 2, 0])) == 1  # its end was the oldest
    assert len(manager.take_prefix([3, 3, 4, 4, 0])) == 1


def test_two_that_compute_the_same_prefix_both_lead_to_what_follows() -> None:
    manager = BlockManager(8, 2)
    one: list[int] = []
    two: list[int] = []
    manager.reserve(one, 0, 4)
    manager.reserve(two, 0, 4)
    manager.index([1, 2], one, 0, 2)
    manager.index([1, 2, 3, 4], two, 0, 4)
    assert manager.take_prefix([1, 2, 3, 4, 5]) == [one[0], two[1]]


def test_a_duplicate_block_forgets_its_prefix_when_it_is_given_back() -> None:
    manager = BlockManager(3, 2)
    one: list[int] = []
    two: list[int] = []
    manager.reserve(one, 0, 2)
    manager.reserve(two, 0, 2)
    manager.index([1, 2], one, 0, 2)
    manager.index([1, 2], two, 0, 2)
    manager.free(two)
    other = computed(manager, [7, 8, 9, 9])
    assert manager.take_prefix([1, 2, 9, 9, 0]) == one
    assert manager.take_prefix([7, 8, 9, 9, 0]) == other


def test_blocks_given_away_are_no_longer_found() -> None:
    manager = BlockManager(2, 2)
    manager.free(computed(manager, [1, 2, 3, 4]))
    table: list[int] = []
    assert manager.reserve(table, 0, 4) == []
    assert manager.take_prefix([1, 2, 3, 4, 5]) == []
    assert manager.reserve(table, 4, 5) is None
    assert len(table) == 2


def test_nothing_is_found_without_prefix_caching() -> None:
    manager = BlockManager(4, 2, prefix_caching=False)
    computed(manager, [1, 2, 3])
    assert manager.take_prefix([1, 2, 3]) == []


def test_what_is_shared_is_copied_before_it_is_written_and_the_last_owner_keeps_it() -> None:
    manager = BlockManager(8, 4)
    first = computed(manager, [1, 2, 3, 4, 5, 6])
    second, third = manager.fork(first, 5), manager.fork(first, 5)
    assert second == third == first
    (one,) = manager.reserve(first, 6, 7) or ()
    assert (one.source, one.target) == (second[1], first[1])
    (two,) = manager.reserve(second, 5, 6) or ()
    assert (two.source, two.target) == (third[1], second[1])
    assert manager.reserve(third, 5, 6) == []
    assert [manager.references(table[1]) for table in (first, second, third)] == [1, 1, 1]
    assert first[0] == second[0] == third[0]


def test_what_the_index_may_hand_out_is_copied_before_it_is_written() -> None:
    manager = BlockManager(3, 2)
    table = computed(manager, [1, 2, 3, 4])
    old = list(table)
    (copy,) = manager.reserve(table, 3, 4) or ()
    assert copy == (old[1], table[1])
    assert manager.take_prefix([1, 2, 3, 4, 5]) == old


def test_reserving_takes_all_or_nothing() -> None:
    manager = BlockManager(4, 2)
    table: list[int] = []
    manager.reserve(table, 0, 3)
    other = manager.fork(table, 3)
    assert manager.reserve(table, 3, 7) is None  # a copy and two more blocks, but only two are free
    assert table == other
    assert manager.num_free == 2
    assert len(manager.reserve(table, 3, 5) or ()) == 1
    assert len(table) == 3
