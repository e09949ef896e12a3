from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRequestError, TokenizerError
from engine.text.tokenizer import load_tokenizer
from tests.engine.text.make_tokenizers import byte_level, save, sentencepiece

TEXTS = ["Hello world", "", "  two  spaces\n\n", "naïve 日本語 🙂", "a<s>b</s>", "x<|end|>y<tool call>", "<pad>"]


def reference(directory: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(directory)


def assert_same_as_transformers(directory: Path) -> None:
    ours, theirs = load_tokenizer(directory), reference(directory)
    for text in TEXTS:
        for special in (True, False):
            assert ours.encode(text, special) == theirs.encode(text, add_special_tokens=special)
        ids = ours.encode(text)
        for skip in (True, False):
            assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert ours.bos_token == theirs.bos_token
    assert ours.eos_token == theirs.eos_token


@pytest.mark.parametrize("name", ["quire-demo", "stories260k", "tinystories-656k"])
def test_real_tokenizers_agree_with_transformers(shared: Path, name: str) -> None:
    assert_same_as_transformers(shared / "models" / name)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bos_token": "<s>", "eos_token": "</s>"},
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": True},
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False},
        {"bos_token": None, "eos_token": "</s>", "add_bos_token": True},
        {"bos_token": {"content": "<s>", "__type": "AddedToken"}, "eos_token": "</s>", "add_eos_token": True},
    ],
    ids=str,
)
def test_flags_of_the_config_agree_with_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    assert_same_as_transformers(
        save(sentencepiece(), tmp_path, {"tokenizer_class": "PreTrainedTokenizerFast"} | config)
    )


def test_tokens_only_the_config_knows_are_added(tmp_path: Path) -> None:
    backend = byte_level()
    size = backend.get_vocab_size()
    declared = {
        str(size): {"content": "<think>", "special": False, "normalized": False},
        str(size + 1): {"content": "<pad>", "special": True, "normalized": False},
    }
    directory = save(
        backend, tmp_path, {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": declared}
    )
    tokenizer = load_tokenizer(directory)
    assert tokenizer.encode("<think>a<pad>")[0] == size
    assert tokenizer.decode(tokenizer.encode("<think>a<pad>")) == "<think>a"
    assert tokenizer.vocab_size == size + 2
    assert_same_as_transformers(directory)


def test_declared_tokens_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    declared = {"9999": {"content": "<think>"}}
    directory = save(byte_level(), tmp_path, {"added_tokens_decoder": declared})
    with pytest.raises(TokenizerError, match="'<think>' the id 9999"):
        load_tokenizer(directory)


def test_special_tokens_map_fills_what_the_config_leaves_out(tmp_path: Path) -> None:
    directory = save(sentencepiece(), tmp_path, {"eos_token": "</s>", "unk_token": None})
    (directory / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "other", "unk_token": "<unk>"})
    )
    tokenizer = load_tokenizer(directory)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_stored_truncation_and_padding_do_not_apply(tmp_path: Path) -> None:
    backend = byte_level()
    backend.enable_truncation(2)
    backend.enable_padding(length=64)
    tokenizer = load_tokenizer(save(backend, tmp_path))
    assert tokenizer.decode(tokenizer.encode("a long enough text")) == "a long enough text"


def test_lookups(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save(sentencepiece(), tmp_path))
    assert tokenizer.token_to_id("▁he") is not None
    assert tokenizer.id_to_token(1) == "<s>"
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(10**6) is None
    assert tokenizer.id_to_token(-1) is None
    assert tokenizer.special_ids == {0, 1, 2}
    assert tokenizer.eos_token_id is None


@pytest.mark.parametrize("ids", [[-1], [2**32], [1, 2**70]])
def test_numbers_that_are_no_ids_are_refused(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(InvalidRequestError, match="not a token id"):
        load_tokenizer(save(sentencepiece(), tmp_path)).decode(ids)


def test_lone_surrogates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="character 2 is a lone surrogate"):
        load_tokenizer(save(sentencepiece(), tmp_path)).encode("ab\ud800")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "tokenizer.json is missing"),
        ({"tokenizer.model": "x"}, "no tokenizer.json, which Quire needs. Convert it once with"),
        ({"tokenizer.json": '{"version": "1.0", "mod'}, "not valid JSON .*truncated or corrupt"),
        ({"tokenizer.json": "[]"}, "must hold a JSON object, not list"),
        ({"tokenizer.json": '{"version": "1.0"}'}, "not a tokenizer the `tokenizers` library can read"),
        ({"tokenizer.json": b"\xff\xfe"}, "not UTF-8 text"),
        ({"tokenizer.json": "[" * 100_000}, "not valid JSON .*recursion"),
    ],
)
def test_bad_files(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "tokenizer_config.json is not valid JSON"),
        ('{"added_tokens_decoder": {"x": {"content": "a"}}}', "must map token ids"),
        ('{"added_tokens_decoder": [1]}', "must map token ids"),
    ],
)
def test_bad_config(tmp_path: Path, config: str, message: str) -> None:
    save(sentencepiece(), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="nowhere is not a directory"):
        load_tokenizer(tmp_path / "nowhere")


def test_nothing_here_imports_torch() -> None:
    modules = "chat_template defaults detokenizer special_tokens template_environment token_bytes tokenizer"
    imports = "; ".join(f"import engine.text.{name}" for name in modules.split())
    subprocess.run([sys.executable, "-c", f"{imports}; import sys; sys.exit('torch' in sys.modules)"], check=True)
