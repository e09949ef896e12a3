"""Which steps are recorded, and what is kept for that."""

from __future__ import annotations

from engine.execution.recorded_steps import decode_sizes, recordings_bytes


def test_sizes_end_at_the_largest() -> None:
    assert decode_sizes(1) == (1,)
    assert decode_sizes(6) == (1, 2, 4, 6)
    assert decode_sizes(64) == (1, 2, 4, 8, 16, 24, 32, 48, 64)
    assert decode_sizes(200) == (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 200)


def test_what_is_kept_grows_with_layers_and_sizes() -> None:
    assert recordings_bytes(32, 64) / 2**20 == 92.25  # of an 8B model
    assert recordings_bytes(80, 64) / recordings_bytes(80, 1) == 9
