"""A tiny tokenizer and chat template, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from server.text import ModelText, load_model_text

TEMPLATE = """{{ bos_token }}{% for message in messages -%}
{% if message.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('unknown role ' + message.role) }}{% endif -%}
<{{ message.role }}>{{ message.content }}</s>
{%- endfor %}{% if add_generation_prompt %}<assistant>{% if mood %}[{{ mood }}]{% endif %}{% endif %}"""  # noqa: E501


def write_model_text(directory: Path, template: str | None = TEMPLATE, special: Sequence[str] = ()) -> Path:
    """The text files of a model: a byte-level tokenizer of 256 bytes and two special tokens, or more."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 2, **{character: 3 + rank for rank, character in enumerate(alphabet)}}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", *special])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    return directory


def model_text(directory: Path, template: str | None = TEMPLATE, special: Sequence[str] = ()) -> ModelText:
    """These files, loaded as the server loads them."""
    return load_model_text(write_model_text(directory, template, special))
