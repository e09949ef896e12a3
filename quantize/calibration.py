"""Token rows that stand for what a model will be used on: from a text file, or written by the model itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from engine.errors import QuantizationError

SELF_GENERATED = "(self-generated)"
_ENCODE_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Rows of tokens.

    Attributes:
        tokens: int32 [rows, length].
        dataset: file name of the text, or `(self-generated)`.
    """

    tokens: torch.Tensor
    dataset: str


class TextEncoder(Protocol):
    """What calibration needs of a tokenizer."""

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool:
        """Whether prompts of this model begin with the BOS token."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


class TextGenerator(Protocol):
    """A model that continues prompts by sampling with temperature 1 from its whole distribution."""

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        """The continuation of every prompt, at most `max_tokens` long; shorter where the model ended its text.

        The token that ends a text is not part of it. Equal arguments give equal results.
        """
        ...


def rows_from_text(path: Path, encoder: TextEncoder, rows: int, length: int) -> CalibrationRows:
    """Cut `rows` windows of `length` tokens out of a text, spread evenly over it, each begun as the model's prompts are.

    Raises:
        QuantizationError: the file cannot be read, is no UTF-8, or is too short; the message gives both numbers.
    """
    body = length - (1 if encoder.adds_bos and encoder.bos_token_id is not None else 0)
    tokens = encode_text(read_text(path), encoder)
    if len(tokens) < rows * body:
        raise QuantizationError(
            f"The calibration text {path} has {len(tokens)} tokens, but {rows} rows of {length} need {rows * body}. "
            f"Use a longer text, or at most {len(tokens) // body} rows."
        )
    stride = len(tokens) // rows
    prefix = [encoder.bos_token_id] if body < length else []
    windows = [prefix + tokens[start : start + body] for start in range(0, rows * stride, stride)]
    return CalibrationRows(torch.tensor(windows, dtype=torch.int32), path.name)


def rows_from_model(
    generator: TextGenerator,
    openings: Sequence[Sequence[int]],
    end_token: int | None,
    rows: int,
    length: int,
    seed: int,
) -> CalibrationRows:
    """Let the model write texts from `openings` in turn, and join them into `rows` rows of `length` tokens.

    Texts follow each other with `end_token` between them, so that short ones fill a row together.

    Raises:
        QuantizationError: the model ends its texts at once.
    """
    if not openings or not all(openings):
        raise QuantizationError("Calibration text cannot be generated without a token to begin with; give a text file.")
    draws = random.Random(seed)
    stream: list[int] = []
    while len(stream) < rows * length:
        missing = -(-(rows * length - len(stream)) // length)
        prompts = [list(openings[index % len(openings)]) for index in range(missing)]
        written = generator.generate(prompts, length, draws.randrange(1 << 31))
        if sum(len(text) for text in written) < missing:
            raise QuantizationError(
                "The model writes next to nothing from its own openings, so it cannot supply calibration text. "
                "Give a text file instead."
            )
        for prompt, text in zip(prompts, written, strict=True):
            stream += prompt + text
            if end_token is not None and len(text) < length:
                stream.append(end_token)
    tokens = torch.tensor(stream[: rows * length], dtype=torch.int32).view(rows, length)
    return CalibrationRows(tokens, SELF_GENERATED)


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        QuantizationError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise QuantizationError(f"The text {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise QuantizationError(f"The text {path} is not UTF-8 (byte {error.start}). Convert it first.") from error


def encode_text(text: str, encoder: TextEncoder) -> list[int]:
    """Tokens of a long text without special tokens, encoded in pieces that end at line ends."""
    tokens: list[int] = []
    start = 0
    while start < len(text):
        end = min(len(text), start + _ENCODE_CHARACTERS)
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        tokens += encoder.encode(text[start:end], add_special_tokens=False)
        start = end
    return tokens
