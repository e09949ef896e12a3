"""Small tokenizers of both kinds, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

TRAINING = [
    "Hello world, hello there!",
    "the cat sat on the mat",
    "def f(x):\n    return x\n",
    "naïve café 日本 🙂",
] * 3


def byte_level() -> tokenizers.Tokenizer:
    """Byte-level BPE, GPT-2's scheme, with special and plain added tokens that are no part of its alphabet."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>", "<｜bos｜>"]
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens([AddedToken("<tool call>", normalized=False), AddedToken("日本語", normalized=False)])
    return tokenizer


def sentencepiece() -> tokenizers.Tokenizer:
    """Llama 2's scheme: `▁` for spaces, one prepended, byte fallback, one leading space stripped on decoding."""
    vocab: dict[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for token in (*(f"<0x{byte:02X}>" for byte in range(256)), *"▁helowrdtcasnm,!", "▁h", "▁he", "ll", "▁▁", "日"):
        vocab.setdefault(token, len(vocab))
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("▁", "▁")]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """Unigram with a Metaspace pre-tokenizer, as T5-like conversions have it."""
    pieces = [("<unk>", 0.0), *((token, -2.0) for token in ("▁", "▁hello", "▁world", *"helowrd,!"))]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS = {"byte_level": byte_level, "sentencepiece": sentencepiece, "metaspace": metaspace}


def save(tokenizer: tokenizers.Tokenizer, directory: Path, config: Mapping[str, Any] | None = None) -> Path:
    """Write tokenizer.json and, if given, tokenizer_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    if config is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory
