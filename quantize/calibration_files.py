"""Calibration texts that people bring: plain text, JSON lines and Parquet, prose and conversations."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, InvalidRequestError, QuantizationError, TemplateError
from engine.model_files import read_text
from engine.text.chat_template import ChatTemplate
from quantize.text_windows import TextEncoder, text_tokens

TEXT, MESSAGES = "text", "messages"


@dataclass(frozen=True, slots=True)
class CalibrationFile:
    """A file, and its share of the calibration rows.

    Attributes:
        path: `.jsonl`, `.parquet`, or anything else, which is taken as UTF-8 text.
        weight: its share, relative to those of the others.
    """

    path: Path
    weight: float


def parse_calibration_file(word: str) -> CalibrationFile:
    """`FILE` or `FILE:WEIGHT`.

    Raises:
        ConfigError: the file has no name, or the weight is not a number above 0.
    """
    name, colon, number = word.rpartition(":")
    if not (name if colon else word).strip():
        raise ConfigError(
            f"calibration must be FILE or FILE:WEIGHT, not '{word}'. Leave it out to have the model write its own text."
        )
    if not colon or "/" in number or Path(word).exists():
        return CalibrationFile(Path(word).expanduser(), 1.0)
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ConfigError(f"calibration must be FILE or FILE:WEIGHT, the weight a number above 0, not '{word}'.")
    return CalibrationFile(Path(name).expanduser(), weight)


class CalibrationReader:
    """Turns files into tokens.

    Args:
        encoder: the model's tokenizer.
        template: the model's chat template, if it has one.
        end: token that stands between texts, if there is one.
    """

    def __init__(self, encoder: TextEncoder, template: ChatTemplate | None, end: int | None) -> None:
        self._encoder = encoder
        self._template = template
        self._end = end

    def tokens(self, path: Path) -> list[int]:
        """All tokens of a file. A row of JSON lines or Parquet is a text (`text`) or a conversation (`messages`).

        Raises:
            QuantizationError: the file or a row of it will not do; the message names both.
        """
        if path.suffix == ".jsonl":
            return self._rows(path, _json_rows(path))
        if path.suffix == ".parquet":
            return self._rows(path, _parquet_rows(path))
        return text_tokens(path, self._encoder, QuantizationError)

    def _rows(self, path: Path, rows: Iterator[Mapping[str, Any]]) -> list[int]:
        tokens: list[int] = []
        for number, row in enumerate(rows, start=1):
            where = f"Row {number} of the calibration text {path}"
            text, ended = self._text(where, row)
            try:
                tokens += self._encoder.encode(text, add_special_tokens=False)
            except InvalidRequestError as error:
                raise QuantizationError(f"{where}: {error}") from None
            if not ended and self._end is not None:
                tokens.append(self._end)
        return tokens

    def _text(self, where: str, row: Mapping[str, Any]) -> tuple[str, bool]:
        """The text of a row, and whether it says itself where it ends."""
        messages = row.get(MESSAGES)
        if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
            if self._template is None:
                raise QuantizationError(f"{where} is a conversation, but this model has no chat template.")
            try:
                return self._template.render(messages, add_generation_prompt=False), True
            except TemplateError as error:
                raise QuantizationError(f"{where} does not suit the model's chat template: {error}") from None
        if isinstance(row.get(TEXT), str):
            return row[TEXT], False
        if row.get(MESSAGES) is not None or row.get(TEXT) is not None:
            raise QuantizationError(f"{where}: `{MESSAGES}` must be a list of objects, or `{TEXT}` a string.")
        raise QuantizationError(
            f"{where} has neither `{TEXT}` nor `{MESSAGES}`, but {', '.join(sorted(row)) or 'nothing'}."
        )


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    content = read_text(path, QuantizationError)
    if content is None:
        raise QuantizationError(f"The calibration text {path} does not exist.")
    for number, line in enumerate(content.split("\n"), start=1):  # JSON may hold what splitlines takes for line ends
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise QuantizationError(f"Line {number} of {path} is not JSON: {error}.") from None
            if not isinstance(row, dict):
                raise QuantizationError(f"Line {number} of {path} is not a JSON object.")
            yield row


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.exists():
        raise QuantizationError(f"The calibration text {path} does not exist.")
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise QuantizationError(
            f"Reading {path} needs pyarrow, which is not installed: pip install pyarrow, or give a .jsonl file."
        ) from None
    try:
        file = parquet.ParquetFile(path)
        columns = [name for name in (TEXT, MESSAGES) if name in file.schema_arrow.names]
        if not columns:
            names = ", ".join(file.schema_arrow.names)
            raise QuantizationError(f"{path} has neither a column `{TEXT}` nor `{MESSAGES}`, but {names}.")
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise QuantizationError(f"{path} cannot be read: {error}") from None
