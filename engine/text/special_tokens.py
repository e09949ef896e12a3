"""The named special tokens (`bos_token`, `eos_token`, ...) a model directory declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import TokenizerError
from engine.model_files import read_json_object

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_special_tokens(directory: Path) -> dict[str, str]:
    """Text of each named special token, by name; names without one are left out.

    `tokenizer_config.json` decides; `special_tokens_map.json`, where older checkpoints keep them, fills the gaps.

    Raises:
        TokenizerError: one of the files is corrupt.
    """
    config = read_json_object(directory / "tokenizer_config.json", TokenizerError) or {}
    legacy = read_json_object(directory / "special_tokens_map.json", TokenizerError) or {}
    found: dict[str, str] = {}
    for name in NAMES:
        # a null in tokenizer_config.json is a statement ("this model has no bos_token"), not a gap
        value = config[name] if name in config else legacy.get(name)
        content = _content(value)
        if content:
            found[name] = content
    return found


def _content(value: object) -> str | None:
    """A token is written as its text, or as an object with the text under `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def declared_added_tokens(config: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """`added_tokens_decoder` of a tokenizer_config.json: what each added token id is.

    Raises:
        TokenizerError: it is malformed.
    """
    declared = config.get("added_tokens_decoder") or {}
    try:
        return {int(token_id): dict(entry, content=str(entry["content"])) for token_id, entry in declared.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise TokenizerError(
            "added_tokens_decoder in tokenizer_config.json must map token ids to objects with a `content`."
        ) from None
