"""The run over real tools and calls finds what it is to find."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tool_calls import FILES, WRITERS, Case, cases, examine, is_valid, read_back, schemas
from server.parsing.table import choose
from server.parsing.tool_format import Tool

DATA = Path(__file__).parents[3] / "shared" / "data" / "tools" / "bfcl-v4.tar.gz"
needs_data = pytest.mark.skipif(not DATA.is_file(), reason="the leaderboard's data are not beside the checkout")

BY_SCHEMA = ("qwen3_coder", "seed_oss", "minimax_m2", "glm", "pythonic", "lfm2")
"""Notations whose parsers take a value for what its schema allows, so that a wrong one is not read back."""

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def archive(folder: Path, entries: Mapping[str, Any]) -> Path:
    file = folder / "data.tar"
    with tarfile.open(file, "w") as made:
        for name in [f"{prefix}{each}.json" for each in FILES for prefix in ("", "possible_answer/")]:
            data = json.dumps(entries[name]).encode() if name in entries else b""
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return file


def test_functions_become_tools_and_the_first_accepted_values_arguments(tmp_path: Path) -> None:
    parameters = {
        "type": "dict",
        "properties": {"at": {"type": "tuple", "items": {"type": "float"}}, "how": {"type": "any"}},
    }
    given = {"at": [[1.5, 2]], "how": ["", {"deep": ["", "yes"], "none": [""]}], "left out": [""]}
    file = archive(
        tmp_path,
        {
            f"{FILES[0]}.json": {"id": "1", "function": [{"name": "geo.find", "parameters": parameters}]},
            f"possible_answer/{FILES[0]}.json": {"id": "1", "ground_truth": [{"geo.find": given}]},
        },
    )
    (case,) = cases(file)
    properties = {"at": {"type": "array", "items": {"type": "number"}}, "how": {}}
    assert case.tools == [Tool("geo_find", {"type": "object", "properties": properties})]
    assert case.calls == [("geo_find", {"at": [1.5, 2], "how": {"deep": "yes"}})]


def test_answers_are_counted_by_what_becomes_of_them() -> None:
    fine = Case([Tool("a", POINT), Tool("b", {"type": "object"})], [("b", {"y": 1}), ("a", {"x": 2})])
    invalid = Case([Tool("a", POINT)], [("a", {"x": "1"})])
    assert examine(choose("", "hermes"), [fine, invalid]) == {"answers": 2, "read back": 2, "valid": 1, "accepted": 1}


def test_other_calls_and_text_beside_them_are_not_taken_for_the_expected_ones() -> None:
    hermes = choose("", "hermes")
    case = Case([Tool("a", POINT)], [("a", {"x": 2})])
    assert not read_back(hermes, case, WRITERS["hermes"]([("a", {"x": 3})]))
    assert not read_back(hermes, case, f"Well. {WRITERS['hermes'](case.calls)}")


def test_schemas_are_counted_once_with_the_reason_of_a_refusal() -> None:
    odd = Tool("c", {"type": "object", "unevaluatedProperties": False})
    found = schemas([Case([Tool("a", POINT), Tool("b", POINT), odd], [])])
    assert found == {"schemas": 2, "refused": 1, "refused for": {"unevaluatedProperties": 1}}


@needs_data
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_sample_of_real_calls_is_read_back_and_allowed(name: str) -> None:
    figures = examine(choose("", name), itertools.islice(cases(DATA), 0, None, 150))
    assert figures["read back"] >= figures["valid"]
    assert figures["read back"] == figures["answers"] or name in BY_SCHEMA
    assert figures["accepted"] == figures["valid"] > 10


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_all_real_calls_are_read_back(name: str) -> None:
    read = {True: Counter[bool](), False: Counter[bool]()}
    for case in cases(DATA):
        read[is_valid(case)][read_back(choose("", name), case, WRITERS[name](case.calls))] += 1
    assert not read[True][False]
    assert not read[False][False] or name in BY_SCHEMA
