"""The ctypes structures are those of the header."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from cuda_ext.attention import AttentionStep
from cuda_ext.exl2 import MOST_MATRICES, Exl2Many, Exl2Matrix, Exl2Step, Exl2Work
from engine.ops.exl2_plan import SEGMENT_WORDS, WARPS

CSRC = Path(__file__).parents[3] / "cuda_ext" / "csrc"
TYPES = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "float": ctypes.c_float,
    "quire_cuda_exl2": Exl2Matrix,
}
STRUCTURES = {
    "quire_cuda_exl2": Exl2Matrix,
    "quire_cuda_exl2_work": Exl2Work,
    "quire_cuda_exl2_step": Exl2Step,
    "quire_cuda_attention": AttentionStep,
    "quire_cuda_exl2_many": Exl2Many,
}
MEMBER = r"(?:const )?(\w+) (\*?)(\w+)(\[QUIRE_CUDA_EXL2_MATRICES\])?;"


@pytest.mark.parametrize(("name", "structure"), STRUCTURES.items())
def test_fields(name: str, structure: type[ctypes.Structure]) -> None:
    header = (CSRC / "quire_cuda.h").read_text(encoding="utf-8")
    body = re.search(rf"typedef struct {name} {{(.*?)}} {name};", header, re.DOTALL)
    assert body is not None
    code = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    members = re.findall(MEMBER, code)
    assert len(members) == code.count(";")
    declared = []
    for kind, pointer, member, array in members:
        ctype = ctypes.c_void_p if pointer else TYPES[kind]
        declared.append((member, ctype * MOST_MATRICES if array else ctype))
    assert declared == list(structure._fields_)


def test_sizes_that_both_sides_know() -> None:
    header = (CSRC / "quire_cuda.h").read_text(encoding="utf-8")
    kernel = (CSRC / "exl2" / "matmul.cuh").read_text(encoding="utf-8")
    assert f"#define QUIRE_CUDA_EXL2_SEGMENT_WORDS {SEGMENT_WORDS}\n" in header
    assert f"#define QUIRE_CUDA_EXL2_MATRICES {MOST_MATRICES}\n" in header
    assert f"constexpr int kWarps = {WARPS};\n" in kernel
