from __future__ import annotations

from pathlib import Path

from tests.docker.mounts import mounts_below

TABLE = r"""
proc /proc proc rw 0 0
overlay /tmp/image/storage/overlay overlay rw 0 0
overlay /tmp/image/storage/overlay/9f/merged overlay rw 0 0
tmpfs /tmp/image2 tmpfs rw 0 0
tmpfs /tmp/image/a\040b tmpfs rw 0 0
""".strip()


def test_the_innermost_mount_is_first_and_others_are_left_alone() -> None:
    assert mounts_below(Path("/tmp/image"), TABLE) == [
        "/tmp/image/a b",
        "/tmp/image/storage/overlay/9f/merged",
        "/tmp/image/storage/overlay",
    ]
