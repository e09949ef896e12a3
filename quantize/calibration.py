"""Token rows that stand for what a model will be used on: from text files, or written by the model itself."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.errors import QuantizationError
from quantize.atomic_file import flush
from quantize.calibration_files import CalibrationFile, CalibrationReader
from quantize.openings import ChatFrame, Openings
from quantize.text_windows import TextEncoder, opening_tokens

SELF_WRITTEN = "(self-generated)"


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How many rows are wanted.

    Attributes:
        rows: to calibrate on.
        length: tokens in each.
        check_rows: most rows that are kept back to measure the result on.
    """

    rows: int
    length: int
    check_rows: int


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Rows of tokens.

    Attributes:
        tokens: int32 [rows, length].
        sources: of each row, the name of the file it is from, or `(self-generated)`.
        check: int32 [n, length] rows kept back to measure the result on, perhaps none.
    """

    tokens: torch.Tensor
    sources: tuple[str, ...]
    check: torch.Tensor

    @property
    def dataset(self) -> str:
        """The names of all files."""
        return " + ".join(dict.fromkeys(self.sources))

    @property
    def facts(self) -> dict[str, int | str]:
        """What a checkpoint's `quantization_config` says of them."""
        rows, length = self.tokens.shape
        return {"rows": rows, "length": length, "dataset": self.dataset}

    def save(self, path: Path) -> None:
        """Write them to a file, which is there whole or not at all."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        tensors = {"tokens": self.tokens, "check": self.check.contiguous()}
        save_file(tensors, unfinished, metadata={"sources": json.dumps(self.sources)})
        flush(unfinished)
        unfinished.replace(path)
        flush(path.parent)

    @classmethod
    def read(cls, path: Path) -> CalibrationRows:
        """What `save` wrote.

        Raises:
            QuantizationError: the file is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                sources = json.loads(file.metadata()["sources"])
                return cls(file.get_tensor("tokens"), tuple(sources), file.get_tensor("check"))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise QuantizationError(f"{path} is damaged ({error}); --restart begins anew.") from None


class TextGenerator(Protocol):
    """A model that continues prompts by sampling with temperature 1 from its whole distribution."""

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        """The continuation of every prompt, at most `max_tokens` long; shorter where the model ended its text.

        The token that ends a text is not part of it. Equal arguments give equal results, and prompts that are equal
        get continuations drawn independently of each other.
        """
        ...


def rows_from_files(
    files: Sequence[CalibrationFile], reader: CalibrationReader, encoder: TextEncoder, options: RowOptions
) -> CalibrationRows:
    """Cut windows out of texts, spread evenly over each, begun as prompts are; weights share the rows out.

    Rows to check the result on come from between the windows, as far as there is room.

    Raises:
        QuantizationError: a file cannot be used, gets no row, or is too short; the message gives both numbers.
    """
    opening = opening_tokens(encoder)
    body = options.length - len(opening)
    rows: list[list[int]] = []
    check: list[list[int]] = []
    sources: list[str] = []
    for file, count in zip(files, _shares(files, options.rows), strict=True):
        tokens = reader.tokens(file.path)
        if len(tokens) < count * body:
            raise QuantizationError(
                f"The calibration text {file.path} has {len(tokens)} tokens, but {count} rows of {options.length} need "
                f"{count * body}. Use a longer text, or fewer or shorter rows (of this length, {len(tokens) // body} "
                "at most)."
            )
        stride = len(tokens) // count
        starts = range(0, count * stride, stride)
        rows += [opening + tokens[start : start + body] for start in starts]
        sources += [file.path.name] * count
        if stride >= 2 * body:
            check += [opening + tokens[start + body : start + 2 * body] for start in starts]
    return CalibrationRows(_tensor(rows), tuple(sources), _spread(_tensor(check, options.length), options.check_rows))


def _shares(files: Sequence[CalibrationFile], rows: int) -> list[int]:
    """Rows of each file, by its weight: whole numbers that add up to `rows`."""
    total = sum(file.weight for file in files)
    bounds = [0.0]
    for file in files:
        bounds.append(bounds[-1] + file.weight / total * rows)
    counts = [round(end) - round(start) for start, end in pairwise(bounds)]
    for file, count in zip(files, counts, strict=True):
        if count < 1:
            raise QuantizationError(
                f"The calibration text {file.path} would get none of the {rows} rows. Use more rows, or more weight."
            )
    return counts


def _tensor(rows: Sequence[Sequence[int]], length: int = 0) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).view(len(rows), -1 if rows else length)


def _spread(rows: torch.Tensor, count: int) -> torch.Tensor:
    """At most `count` of the rows, evenly spread."""
    return rows[:: max(1, -(-len(rows) // count))] if count else rows[:0]


def rows_from_model(generator: TextGenerator, openings: Openings, options: RowOptions, seed: int) -> CalibrationRows:
    """Let the model write texts and join them into rows; the last ones are kept back to check the result on.

    A model with a chat template writes conversations, question and answer both; any other model writes from its
    first token. Short texts fill a row together; how many it takes is guessed from the lengths seen so far.

    Raises:
        QuantizationError: the model has nothing to begin with, or ends its texts at once.
    """
    if openings.chat is None and not openings.plain:
        raise QuantizationError("This model's tokenizer has no token that begins a text; give a calibration text.")
    draws = random.Random(seed)
    rows, length = options.rows + options.check_rows, options.length
    stream: list[int] = []
    written = 0
    while (missing := rows * length - len(stream)) > 0:
        mean = len(stream) / written if written else length
        count = math.ceil(missing / mean)
        if openings.chat is None:
            room = max(1, length - len(openings.plain))
            texts = _continue(generator, [list(openings.plain)] * count, room, draws)
        else:
            texts = _converse(generator, openings.chat, count, length, draws)
        for text, ended in texts:
            stream += text + ([openings.end] if ended and openings.end is not None else [])
        written += count
    tokens = torch.tensor(stream[: rows * length], dtype=torch.int32).view(rows, length)
    return CalibrationRows(tokens[: options.rows].clone(), (SELF_WRITTEN,) * options.rows, tokens[options.rows :])


def _converse(
    generator: TextGenerator, frame: ChatFrame, count: int, length: int, draws: random.Random
) -> list[tuple[list[int], bool]]:
    """Conversations of one exchange, at most about `length` tokens each: the model writes the question, then answers.

    Xu et al., "Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with Nothing" (2024).
    """
    room = max(1, (length - len(frame.before) - len(frame.after)) // 2)
    questions = _continue(generator, [list(frame.before)] * count, room, draws)
    return _continue(generator, [question + list(frame.after) for question, _ in questions], room, draws)


def _continue(
    generator: TextGenerator, prompts: Sequence[list[int]], max_tokens: int, draws: random.Random
) -> list[tuple[list[int], bool]]:
    """Each prompt with its continuation, and whether the model ended it."""
    written = generator.generate(list(prompts), max_tokens, draws.randrange(1 << 31))
    if sum(len(text) for text in written) < len(prompts):
        raise QuantizationError(
            "The model writes next to nothing of its own accord, so it cannot supply its calibration text. "
            "Give a text file instead."
        )
    return [(prompt + text, len(text) < max_tokens) for prompt, text in zip(prompts, written, strict=True)]
