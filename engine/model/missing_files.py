"""Why a model directory lacks tensors: which of its weight files are not there, as far as that can be told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import CheckpointError
from engine.model_files import read_json_object

INDEXES = "*.safetensors.index.json"
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")
MOST_FILES_IN_A_MESSAGE = 4


def reason_of_absence(directory: Path, missing: Sequence[str]) -> str:
    """Why tensors are missing from `directory`: files that its index or the numbers in their names speak of.

    Args:
        directory: of the model.
        missing: names of tensors, or of all tensors of a matrix, as `NAME.*`.

    Returns:
        The reason and what to do, to stand behind a colon or semicolon; empty where it cannot be told.
    """
    indexed = [each for path in sorted(directory.glob(INDEXES)) for each in _indexed(path, missing)]
    absent = sorted({file for file, _ in indexed if not (directory / file).exists()}) or list(_gaps(directory))
    if absent:
        return f"the weights are not complete, {_listing(absent)} is missing; fetch it again"
    if indexed:
        file, name = indexed[0]
        return f"by its index {name} is in {file}, but that file has not got it; fetch both again"
    return ""


def _indexed(path: Path, missing: Sequence[str]) -> Iterator[tuple[str, str]]:
    """File and name of each of the tensors that an index lists."""
    try:
        files = (read_json_object(path, CheckpointError) or {}).get("weight_map")
    except CheckpointError:
        return  # it is read for the sake of the message only
    whole = {name for name in missing if not name.endswith(".*")}
    prefixes = tuple(name[:-1] for name in missing if name.endswith(".*"))
    for name, file in files.items() if isinstance(files, dict) else ():
        if isinstance(file, str) and (name in whole or name.startswith(prefixes)):
            yield file, name


def _gaps(directory: Path) -> Iterator[str]:
    """Files that must once have been there, by the numbers of the others."""
    found = [match for path in sorted(directory.iterdir()) if (match := NUMBERED.fullmatch(path.name))]
    for stem, total in dict.fromkeys((match["stem"], match["total"]) for match in found):
        numbers = {int(match["number"]) for match in found if (match["stem"], match["total"]) == (stem, total)}
        for number in range(1, int(total) + 1):
            if number not in numbers:
                yield f"{stem}-{number:05}-of-{total}.safetensors"


def _listing(files: Sequence[str]) -> str:
    more = len(files) - MOST_FILES_IN_A_MESSAGE
    return ", ".join(files[:MOST_FILES_IN_A_MESSAGE]) + (f" and {more} more" if more > 0 else "")
