"""The exact bytes every token id stands for.

The engine works on bytes (stop strings, UTF-8 assembly), and a token may be part of a character, so its text alone
is not enough. Two families of tokenizers exist, told apart by the `decoder` section of tokenizer.json:

* byte-level BPE (GPT-2's scheme): each character of a token stands for one byte, by a fixed alphabet of 256;
* SentencePiece style: `▁` stands for a space and `<0x0A>` for a byte that no token covers.

The leading-space rule: SentencePiece-style tokenizers write a space in front of a text when encoding, and their
decoder drops one space at the very start of a text. Bytes here are those of a token *in the middle* of a text, so a
continuation of a prompt keeps its space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.errors import TokenizerError
from engine.text.tokenizer import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """Bytes of each token id below `vocab_size`.

    Attributes:
        special: ids of special tokens, whose bytes are usually not shown.
    """

    def __init__(self, table: Sequence[bytes], special: frozenset[int]) -> None:
        self._table = tuple(table)
        self.special = special

    def __len__(self) -> int:
        return len(self._table)

    def of(self, token_id: int) -> bytes:
        """Bytes of one token; b"" for ids no token has (padding of the vocabulary)."""
        return self._table[token_id] if 0 <= token_id < len(self._table) else b""


def token_bytes(tokenizer: Tokenizer, vocab_size: int) -> TokenBytes:
    """The table for a tokenizer.

    Args:
        tokenizer: of the model.
        vocab_size: rows of logits of the model; ids the tokenizer does not know get b"".

    Raises:
        TokenizerError: the tokenizer is of an unknown kind, or has ids the model does not.
    """
    if tokenizer.vocab_size > vocab_size:
        token = tokenizer.id_to_token(tokenizer.vocab_size - 1)
        raise TokenizerError(
            f"The tokenizer does not match the model: it has token ids up to {tokenizer.vocab_size - 1} ('{token}'), "
            f"the model's vocabulary ends at {vocab_size - 1}. Use the tokenizer files the model came with."
        )
    steps = list(_decoder_steps(tokenizer.decoder))
    byte_level = any(step["type"] == "ByteLevel" for step in steps)
    table = [b""] * vocab_size
    for token, token_id in tokenizer.vocabulary().items():
        if byte_level:
            verbatim = token_id in tokenizer.added_ids
            table[token_id] = token.encode() if verbatim else _byte_level(token)
        else:
            table[token_id] = _sentencepiece(token, steps)
    return TokenBytes(table, tokenizer.special_ids)


def _decoder_steps(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The decoder's steps, nested sequences flattened.

    Raises:
        TokenizerError: one of them is of a kind whose tokens have no bytes of their own.
    """
    kind = None if decoder is None else decoder.get("type")
    if decoder is None or kind not in (
        "Sequence",
        "ByteLevel",
        "Replace",
        "ByteFallback",
        "Fuse",
        "Strip",
        "Metaspace",
    ):
        raise TokenizerError(
            f"tokenizer.json has a decoder of type {kind}; only byte-level and SentencePiece-style tokenizers are "
            "supported."
        )
    if kind == "Sequence":
        for step in decoder["decoders"]:
            yield from _decoder_steps(step)
    elif kind == "Strip" and (decoder["content"], decoder["stop"]) != (" ", 0):
        raise TokenizerError("tokenizer.json strips more than spaces at the start of a text, which is not supported.")
    elif kind == "Replace" and "String" not in decoder["pattern"]:
        raise TokenizerError("tokenizer.json replaces a pattern in decoded text, which is not supported.")
    else:
        yield decoder


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return alphabet


_ALPHABET = _byte_level_alphabet()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(_ALPHABET[character] for character in token)
    except KeyError:  # not written in the alphabet: the library takes such a token as it stands
        return token.encode()


def _sentencepiece(token: str, steps: Sequence[Mapping[str, Any]]) -> bytes:
    for step in steps:
        match step["type"]:
            case "Replace":
                token = token.replace(step["pattern"]["String"], step["content"])
            case "Metaspace":
                token = token.replace(step["replacement"], " ")
            case "ByteFallback" if byte := _BYTE_TOKEN.fullmatch(token):
                return bytes([int(byte[1], 16)])
    return token.encode()
