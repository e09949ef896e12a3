"""Which steps a device records, and what is kept free for the recordings."""

from __future__ import annotations

FINE = (1, 2, 4, 8, 16, 24, 32, 48, 64)
COARSE = 32

KERNELS_OF_LAYER, KERNELS_BESIDES = 20, 16
"""Most kernels that a recorded step starts for each layer, and for embedding, head and sampling together."""

BYTES_OF_KERNEL = 16 << 10
"""For what the driver keeps of one kernel of a recording: its node, its arguments, its launch. A guess, not measured
yet; `DeviceModelRunner.warm_up` holds it against what recordings take."""


def decode_sizes(most: int) -> tuple[int, ...]:
    """Sequences of the steps that recur, up to exactly `most`: close together where little is computed anyway."""
    sizes = [size for size in FINE if size < most]
    sizes += range(FINE[-1] + COARSE, most, COARSE)
    return (*sizes, most)


def recordings_bytes(layers: int, rows: int) -> int:
    """Device memory to keep for recordings of a model of so many layers, one of each size up to `rows`."""
    return len(decode_sizes(rows)) * (layers * KERNELS_OF_LAYER + KERNELS_BESIDES) * BYTES_OF_KERNEL
