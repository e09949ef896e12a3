"""The bound is never above the real number of tokens, whatever the tokenizer does to a text."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from engine.text.tokenizer import load_tokenizer
from tests.engine.text.make_tokenizers import byte_level, metaspace, save, sentencepiece


def composing() -> Tokenizer:
    """Composes accents, as Qwen2's tokenizer does."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def swallowing() -> Tokenizer:
    """A special token takes the whitespace behind it along, as those of Phi-3 do."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<|user|>", rstrip=True, lstrip=True, normalized=False)])
    return tokenizer


def dropping() -> Tokenizer:
    """Whitespace is no part of any token."""
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def collapsing() -> Tokenizer:
    """Runs of spaces become one."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.Replace("  ", " ")
    return tokenizer


def gappy() -> Tokenizer:
    """Has no tokens for most bytes, and so drops them."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = byte_level().decoder
    return tokenizer


BOUNDED = {"byte level": byte_level, "sentencepiece": sentencepiece, "composing": composing, "swallowing": swallowing}
UNBOUNDED = {"metaspace": metaspace, "dropping": dropping, "collapsing": collapsing, "gappy": gappy}

with tempfile.TemporaryDirectory() as _directory:
    LOADED = {
        name: load_tokenizer(save(make(), Path(_directory) / name)) for name, make in {**BOUNDED, **UNBOUNDED}.items()
    }

pieces = st.lists(
    st.sampled_from(
        ["<|user|>", "<|end|>", " ", "\n", "  " * 20, "e\u0301", "\u1f00\u0342\u0345", "日本語", "ab", "🙂"]
    )
    | st.text(max_size=5),
    max_size=30,
)


@given(st.sampled_from(sorted(LOADED)), pieces)
def test_never_more_than_there_are(name: str, parts: list[str]) -> None:
    text = "".join(parts).encode("utf-8", "replace").decode()
    tokenizer = LOADED[name]
    assert tokenizer.fewest_tokens(text) <= len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", BOUNDED)
def test_a_long_text_has_many_tokens(name: str) -> None:
    tokenizer = LOADED[name]
    longest = max(map(len, tokenizer.vocabulary()))
    assert tokenizer.fewest_tokens("x" * 400 * longest) >= 100


@pytest.mark.parametrize("name", UNBOUNDED)
def test_nothing_is_told_where_characters_may_vanish(name: str) -> None:
    assert LOADED[name].fewest_tokens("x" * 10**6) == 0
