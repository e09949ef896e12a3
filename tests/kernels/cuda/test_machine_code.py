"""What nvcc makes of the kernels: that it compiles them, and that the machine instructions meant stand in its code.

Needs nvcc and cuobjdump, as `pip install -r requirements/cuda.txt` brings them, but no GPU.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cuda_ext.build import OBJECTS, account_of, build, find_nvcc
from cuda_ext.loader import load_library
from cuda_ext.report import read_resources
from tests.kernels.cuda.machine_code import count, find_cuobjdump, instructions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ARCHITECTURES = ("80", "90a")
FOLDER = OBJECTS.with_name("cuda-checked")
WIDTHS = 6
LOCAL_MEMORY = ("LDL", "STL")


@pytest.fixture(scope="module")
def objects() -> list[Path]:
    """Every source compiled for ARCHITECTURES, and linked; minutes the first time."""
    if find_nvcc() is None:
        pytest.skip("needs nvcc: pip install -r requirements/cuda.txt")
    return build(ARCHITECTURES, FOLDER / "libquire_cuda.so", objects=FOLDER)


def kernels(objects: list[Path], source: str, architecture: str) -> dict[str, Counter[str]]:
    tool = find_cuobjdump()
    if tool is None:
        pytest.skip("needs cuobjdump and nvdisasm: pip install -r requirements/cuda.txt")
    (built,) = [each for each in objects if str(each.relative_to(FOLDER)).startswith(f"{source}-")]
    found = instructions(tool, built, architecture)
    assert found, f"{built} holds no code for {architecture}"
    return found


def test_the_library_opens_without_a_gpu(objects: list[Path]) -> None:
    library = load_library(FOLDER / "libquire_cuda.so")
    assert library.built_for is not None


def test_nothing_spills(objects: list[Path]) -> None:
    resources = [kernel for each in objects for kernel in read_resources(account_of(each).read_text())]
    assert {kernel.architecture for kernel in resources} == {f"sm_{each}" for each in ARCHITECTURES}
    assert [str(kernel) for kernel in resources if kernel.local] == []


every_architecture = pytest.mark.parametrize("architecture", [f"sm_{each}" for each in ARCHITECTURES])


@every_architecture
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_products_of_few_rows(objects: list[Path], architecture: str, groups: int) -> None:
    (code,) = kernels(objects, f"exl2/matmul_{8 * groups}", architecture).values()
    assert code["HMMA.16816.F32"] == 16 * groups * WIDTHS, "16 matrix instructions for a tile of each width, and 8 rows"
    assert count(code, "HMMA") == code["HMMA.16816.F32"]
    copies = {name for name in code if name.startswith("LDGSTS")}
    assert copies, "tiles are copied beside the arithmetic"
    assert all(name.endswith(".128") for name in copies), "16 bytes for each lane"
    assert code["LDSM.16.M88.4"] == groups * WIDTHS, "activations of a tile and 8 rows come at once"
    assert code["LDS.128"] > 0
    assert not any(count(code, name) for name in LOCAL_MEMORY)


@every_architecture
@pytest.mark.parametrize(("dtype", "instruction"), [("f16", "HMMA.16816.F32"), ("bf16", "HMMA.16816.F32.BF16")])
@pytest.mark.parametrize("way", ["decode", "prompt"])
def test_attention(objects: list[Path], architecture: str, way: str, dtype: str, instruction: str) -> None:
    found = kernels(objects, f"attention/{way}_{dtype}", architecture)
    assert len(found) == 3, "one for each of three head dimensions"
    for code in found.values():
        assert code[instruction] > 0
        assert count(code, "HMMA") == code[instruction]
        copies = {name for name in code if name.startswith("LDGSTS")}
        assert copies, "keys and values are copied beside the arithmetic"
        assert all(".128" in name for name in copies), "16 bytes for each lane"
        assert code["LDSM.16.M88.4"] > 0, "queries and keys come four matrices at a time"
        assert code["LDSM.16.MT88.4"] > 0, "values too, transposed on the way"
        assert not any(count(code, name) for name in LOCAL_MEMORY)


@every_architecture
def test_decoding_reads_tiles_16_bytes_at_a_time(objects: list[Path], architecture: str) -> None:
    found = kernels(objects, "exl2/dequantize", architecture)
    tiled = [code for name, code in found.items() if "decode_tiles" in name]
    assert len(tiled) == 2
    for code in tiled:
        assert sum(times for name, times in code.items() if name.startswith("LDG.E.128")) >= 2 + 3 + 4 + 5 + 6 + 8
        assert not any(count(code, name) for name in LOCAL_MEMORY)


@every_architecture
def test_elementwise_ops_read_16_bytes_at_a_time(objects: list[Path], architecture: str) -> None:
    wide = [
        code
        for name, code in kernels(objects, "elementwise/elementwise", architecture).items()
        if "Li8E" in name  # eight elements for each thread
    ]
    assert len(wide) == 4
    for code in wide:
        assert sum(times for name, times in code.items() if name.startswith("LDG.E.128")) == 2
        assert sum(times for name, times in code.items() if name.startswith("STG.E.128")) == 1


def test_products_of_many_rows_use_the_instructions_of_warp_groups(objects: list[Path]) -> None:
    found = kernels(objects, "exl2/matmul_many", "sm_90a")
    instructions_of = sorted(code["HGMMA.64x64x16.F32"] for code in found.values())
    assert instructions_of == [8, 16], "two tiles of 32 rows by 32 columns for a warp, and 64 rows, or twice as many"
    for code in found.values():
        assert count(code, "HMMA") == 0
        assert count(code, "WARPGROUP.DEPBAR") == 3, (
            "one wait for each tile and one at the end: they are not serialized"
        )
        assert all(name.endswith(".128") for name in code if name.startswith("LDGSTS"))
        assert not any(count(code, name) for name in LOCAL_MEMORY)
