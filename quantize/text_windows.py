"""Long texts as rows of tokens, the same way for calibration and for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from engine.errors import QuireError
from engine.model_files import read_text

_PIECE_CHARACTERS = 1 << 20


class TextEncoder(Protocol):
    """What is needed of a tokenizer."""

    @property
    def bos_token_id(self) -> int | None: ...

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...


def text_tokens(path: Path, encoder: TextEncoder, error: type[QuireError]) -> list[int]:
    """Tokens of a UTF-8 text file, without special tokens; encoded in pieces that end at line ends.

    Raises:
        error: the file is missing, cannot be read or is not UTF-8; the message names it.
    """
    text = read_text(path, error)
    if text is None:
        raise error(f"The text file {path} does not exist.")
    tokens: list[int] = []
    start = 0
    while start < len(text):
        end = min(len(text), start + _PIECE_CHARACTERS)
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        tokens += encoder.encode(text[start:end], add_special_tokens=False)
        start = end
    return tokens


def opening_tokens(encoder: TextEncoder) -> list[int]:
    """What the tokenizer puts before every text: its BOS token, or nothing."""
    with_specials = encoder.encode("a", add_special_tokens=True)
    bos = encoder.bos_token_id
    return [bos] if bos is not None and with_specials[:1] == [bos] else []


def check_vocabulary(tokens: torch.Tensor, vocab_size: int, directory: Path, error: type[QuireError]) -> None:
    """Refuse tokens that the model in `directory` does not know.

    Raises:
        error: there is one; the message names it.
    """
    largest = int(tokens.max())
    if largest >= vocab_size:
        raise error(
            f"The tokenizer in {directory} makes token {largest}, but the model knows only {vocab_size}; "
            "they do not belong together."
        )
