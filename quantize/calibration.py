"""Token rows that stand for what a model will be used on: from a text file, or written by the model itself."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.errors import QuantizationError
from quantize.atomic_file import flush
from quantize.openings import ChatFrame, Openings
from quantize.text_windows import TextEncoder, opening_tokens, text_tokens

SELF_WRITTEN = "(self-generated)"


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Rows of tokens.

    Attributes:
        tokens: int32 [rows, length].
        dataset: file name of the text, or `(self-generated)`.
    """

    tokens: torch.Tensor
    dataset: str

    @property
    def facts(self) -> dict[str, int | str]:
        """What a checkpoint's `quantization_config` says of them."""
        rows, length = self.tokens.shape
        return {"rows": rows, "length": length, "dataset": self.dataset}

    def save(self, path: Path) -> None:
        """Write them to a file, which is there whole or not at all."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        save_file({"tokens": self.tokens}, unfinished, metadata={"dataset": self.dataset})
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
                return cls(file.get_tensor("tokens"), file.metadata()["dataset"])
        except (OSError, SafetensorError) as error:
            raise QuantizationError(f"{path} is damaged ({error}); --restart begins anew.") from None


class TextGenerator(Protocol):
    """A model that continues prompts by sampling with temperature 1 from its whole distribution."""

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        """The continuation of every prompt, at most `max_tokens` long; shorter where the model ended its text.

        The token that ends a text is not part of it. Equal arguments give equal results, and prompts that are equal
        get continuations drawn independently of each other.
        """
        ...


def rows_from_text(path: Path, encoder: TextEncoder, rows: int, length: int) -> CalibrationRows:
    """Cut `rows` windows of `length` tokens out of a text, spread evenly over it, each begun as prompts are.

    Raises:
        QuantizationError: the file cannot be read, is no UTF-8, or is too short; the message gives both numbers.
    """
    opening = opening_tokens(encoder)
    body = length - len(opening)
    tokens = text_tokens(path, encoder, QuantizationError)
    if len(tokens) < rows * body:
        raise QuantizationError(
            f"The calibration text {path} has {len(tokens)} tokens, but {rows} rows of {length} need {rows * body}. "
            f"Use a longer text, or fewer or shorter rows (of this length, {len(tokens) // body} at most)."
        )
    stride = len(tokens) // rows
    windows = [opening + tokens[start : start + body] for start in range(0, rows * stride, stride)]
    return CalibrationRows(torch.tensor(windows, dtype=torch.int32), path.name)


def rows_from_model(generator: TextGenerator, openings: Openings, rows: int, length: int, seed: int) -> CalibrationRows:
    """Let the model write texts and join them into `rows` rows of `length` tokens.

    A model with a chat template writes conversations, question and answer both; any other model writes from its
    first token. Short texts fill a row together; how many it takes is guessed from the lengths seen so far.

    Raises:
        QuantizationError: the model has nothing to begin with, or ends its texts at once.
    """
    if openings.chat is None and not openings.plain:
        raise QuantizationError("This model's tokenizer has no token that begins a text; give a calibration text.")
    draws = random.Random(seed)
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
    return CalibrationRows(tokens, SELF_WRITTEN)


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
