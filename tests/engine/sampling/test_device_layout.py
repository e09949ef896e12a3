"""The bytes between host and sampling kernels: as in the header, and as small as promised."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cuda_ext import sampling as native
from cuda_ext.build import SOURCES
from engine.ops import cuda_sampling
from engine.sampling.device_layout import (
    MOST_OCCURRENCES,
    RECORD,
    ROW,
    SEEN_IN_PROMPT,
    as_fraction,
    count_tokens,
)

HEADER = (SOURCES / "quire_cuda.h").read_text()
TYPES = {"uint64_t": "u8", "int32_t": "i4", "float": "f4", "double": "f8"}


def declared(name: str) -> list[tuple[str, str]]:
    """Names and numpy types of a structure's fields in the header."""
    found = re.search(rf"typedef struct {name} {{(.*?)}}", HEADER, re.DOTALL)
    assert found is not None
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    return [(field, TYPES[kind]) for kind, field in re.findall(r"(\w+) (\w+)(?:\[\w+\])?;", body)]


@pytest.mark.parametrize(("dtype", "name"), [(ROW, "quire_cuda_sampling_row"), (RECORD, "quire_cuda_sampled")])
def test_structures_are_those_of_the_header(dtype: np.dtype[np.void], name: str) -> None:
    assert dtype.names is not None
    assert dtype.fields is not None
    assert [(each, dtype.fields[each][0].base.str[1:]) for each in dtype.names] == declared(name)
    aligned = [dtype.fields[each][1] % dtype.fields[each][0].base.itemsize == 0 for each in dtype.names]
    assert all(aligned)  # so that C puts nothing in between
    assert dtype.itemsize % 8 == 0


def test_constants_are_those_of_the_header() -> None:
    values = {name: int(number) for name, number in re.findall(r"#define QUIRE_CUDA_SAMPLING_(\w+) (\d+)", HEADER)}
    assert values == {"CHUNK": native.CHUNK, "BINS": native.BINS, "TOP": native.MOST_TOP}
    assert ROW.itemsize == cuda_sampling.ROW_BYTES
    assert RECORD.itemsize == cuda_sampling.RECORD_BYTES


def test_fractions() -> None:
    assert as_fraction(1.0) == 0
    assert as_fraction(0.5) == 2**63
    assert as_fraction(1 - 2**-53) == 2**64 - 2**11
    assert as_fraction(1e-300) == 1


def test_counts_tell_prompt_and_answer_apart() -> None:
    counts = count_tokens([1, 1, 3, 3, 4, 4, 4], 3, 6)
    assert counts.dtype == np.uint16
    assert counts.tolist() == [0, SEEN_IN_PROMPT, 0, SEEN_IN_PROMPT + 1, 3, 0]
    assert count_tokens([0] + [1] * 40000, 1, 2).tolist() == [SEEN_IN_PROMPT, MOST_OCCURRENCES]
