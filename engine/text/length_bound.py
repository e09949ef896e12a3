"""The fewest tokens a text can have, told from its length: a text far too long need not be encoded to be refused.

It holds for tokenizers that keep every character: byte-level BPE, and BPE or Unigram that spell unknown characters in
bytes. Others may drop characters, or make one token of any number of unknown ones; for these nothing is told.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import pre_tokenizers

COMPOSITION = 4
"""Most characters that Unicode normalization (NFC, NFKC) makes one character of."""

WHITESPACE = tuple(chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace())

_KEEPING_PRETOKENIZERS = frozenset({"ByteLevel", "Metaspace", "Digits", "UnicodeScripts"})
_GROWING_NORMALIZERS = frozenset({"Prepend", "ByteLevel"})


@dataclass(frozen=True, slots=True)
class LengthBound:
    """How characters and tokens of a tokenizer relate.

    Attributes:
        characters: most characters of a text that one token stands for.
        whitespace_counts: False where special tokens swallow the whitespace beside them.
    """

    characters: int
    whitespace_counts: bool

    def fewest_tokens(self, text: str) -> int:
        """Tokens the text has at least."""
        length = len(text)
        if not self.whitespace_counts and length >= self.characters:
            length -= sum(text.count(each) for each in WHITESPACE)
        return -(-length // self.characters)


def length_bound(
    layout: Mapping[str, Any], vocabulary: Collection[str], swallows_whitespace: bool
) -> LengthBound | None:
    """The bound of a tokenizer, or None where there is none.

    Args:
        layout: tokenizer.json.
        vocabulary: every token as the tokenizer spells it, none with fewer characters than what it stands for.
        swallows_whitespace: whether a token takes the whitespace beside it along.
    """
    shrinking = _shrinking(layout.get("normalizer"))
    if shrinking is None or not _keeps_everything(layout, vocabulary):
        return None
    return LengthBound(max(map(len, vocabulary)) * shrinking, whitespace_counts=not swallows_whitespace)


def _keeps_everything(layout: Mapping[str, Any], vocabulary: Collection[str]) -> bool:
    """Whether every character of a normalized text ends up in some token, and unknown ones byte by byte."""
    model = layout.get("model", {})
    if model.get("type") not in ("BPE", "Unigram"):
        return False
    pretokenizers = _flattened(layout.get("pre_tokenizer"), "pretokenizers")
    kinds = [each.get("type") for each in pretokenizers]
    if not all(kind in _KEEPING_PRETOKENIZERS or _keeps(each) for kind, each in zip(kinds, pretokenizers, strict=True)):
        return False
    normalizers = [each.get("type") for each in _flattened(layout.get("normalizer"), "normalizers")]
    if "ByteLevel" in (*kinds, *normalizers):
        return all(each in vocabulary for each in pre_tokenizers.ByteLevel.alphabet())
    return model.get("byte_fallback") is True and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))


def _keeps(pretokenizer: Mapping[str, Any]) -> bool:
    return pretokenizer.get("type") in ("Split", "Punctuation") and pretokenizer.get("behavior") != "Removed"


def _shrinking(normalizer: Mapping[str, Any] | None) -> int | None:
    """How many characters of a text may become one; None where any number may."""
    most = 1
    for each in _flattened(normalizer, "normalizers"):
        match each.get("type"):
            case "NFC" | "NFKC":
                most *= COMPOSITION
            case "Replace" if len(each["pattern"].get("String", "")) in range(1, len(each["content"]) + 1):
                pass
            case kind if kind not in _GROWING_NORMALIZERS:
                return None
    return most


def _flattened(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a part of tokenizer.json, nested sequences resolved."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [step for each in part[inner] for step in _flattened(each, inner)]
