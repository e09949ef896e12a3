"""The ctypes structures are those of the header."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from cuda_ext.exl2 import Exl2Matrix, Exl2Step
from engine.ops.exl2_plan import SEGMENT_WORDS, WARPS

CSRC = Path(__file__).parents[3] / "cuda_ext" / "csrc"
TYPES = {"int32_t": ctypes.c_int32}


@pytest.mark.parametrize(("name", "structure"), [("quire_cuda_exl2", Exl2Matrix), ("quire_cuda_exl2_step", Exl2Step)])
def test_fields(name: str, structure: type[ctypes.Structure]) -> None:
    header = (CSRC / "quire_cuda.h").read_text(encoding="utf-8")
    body = re.search(rf"typedef struct {name} {{(.*?)}} {name};", header, re.DOTALL)
    assert body is not None
    members = re.findall(r"(?:const )?(\w+) (\*?)(\w+);", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL))
    assert members
    declared = [(member, ctypes.c_void_p if pointer else TYPES[kind]) for kind, pointer, member in members]
    assert declared == list(structure._fields_)


def test_sizes_that_both_sides_know() -> None:
    header = (CSRC / "quire_cuda.h").read_text(encoding="utf-8")
    kernel = (CSRC / "exl2" / "matmul.cuh").read_text(encoding="utf-8")
    assert f"#define QUIRE_CUDA_EXL2_SEGMENT_WORDS {SEGMENT_WORDS}\n" in header
    assert f"constexpr int kWarps = {WARPS};\n" in kernel
