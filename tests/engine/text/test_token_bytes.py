from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from engine.errors import TokenizerError
from engine.text.token_bytes import TokenBytes, token_bytes
from engine.text.tokenizer import Tokenizer, load_tokenizer
from tests.engine.text.make_tokenizers import KINDS, byte_level, save, sentencepiece

REAL = ("quire-demo", "stories260k", "tinystories-656k")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, TokenBytes]]:
    loaded = {}
    for kind, make in KINDS.items():
        directory = save(make(), tmp_path_factory.mktemp(kind))
        tokenizer = load_tokenizer(directory)
        loaded[kind] = tokenizer, token_bytes(tokenizer, tokenizer.vocab_size)
    return loaded


def text_of(tokenizer: Tokenizer, table: TokenBytes, ids: list[int]) -> str | None:
    """What `decode` should make of the ids; None where the bytes are no UTF-8, which the kinds mark differently.

    Kinds that write a space in front of a text when they encode it drop one there when they decode.
    """
    try:
        text = b"".join(table.of(each) for each in ids).decode()
    except UnicodeDecodeError:
        return None
    space = next(each for each in range(len(table)) if table.of(each) == b" ")
    return text if tokenizer.decode([space], skip_special_tokens=False) else text.removeprefix(" ")


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_joined_bytes_are_what_decode_gives(
    made: dict[str, tuple[Tokenizer, TokenBytes]], kind: str, data: st.DataObject
) -> None:
    tokenizer, table = made[kind]
    ids = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=12))
    expected = text_of(tokenizer, table, ids)
    if expected is not None:
        assert tokenizer.decode(ids, skip_special_tokens=False) == expected


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_joined_bytes_of_an_encoded_text_are_the_text(
    made: dict[str, tuple[Tokenizer, TokenBytes]], kind: str, text: str
) -> None:
    tokenizer, table = made[kind]
    if kind == "sentencepiece":
        text = text.replace("▁", " ")  # the two are one and the same to this kind
    assert text_of(tokenizer, table, tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(shared: Path, name: str) -> None:
    tokenizer = load_tokenizer(shared / "models" / name)
    table = token_bytes(tokenizer, tokenizer.vocab_size)
    for token_id in range(tokenizer.vocab_size):  # behind an ordinary token, so that the leading-space rule is idle
        ids = [tokenizer.encode("a", add_special_tokens=False)[-1], token_id]
        expected = text_of(tokenizer, table, ids)
        if expected is not None:
            assert tokenizer.decode(ids, skip_special_tokens=False) == expected
    sample = "Once upon a time, there was a naïve café — 日本 🙂.\n"
    ids = tokenizer.encode(sample)
    assert text_of(tokenizer, table, ids) == tokenizer.decode(ids, skip_special_tokens=False)


def test_every_byte_has_a_token_in_both_families(made: dict[str, tuple[Tokenizer, TokenBytes]]) -> None:
    for kind in ("byte_level", "sentencepiece"):
        table = made[kind][1]
        single = {table.of(each) for each in range(len(table)) if len(table.of(each)) == 1}
        assert single == {bytes([byte]) for byte in range(256)}


def test_added_tokens_are_verbatim_and_specials_marked(made: dict[str, tuple[Tokenizer, TokenBytes]]) -> None:
    tokenizer, table = made["byte_level"]
    for token, special in (("<｜bos｜>", True), ("<|end|>", True), ("<tool call>", False), ("日本語", False)):
        token_id = tokenizer.token_to_id(token)
        assert token_id is not None
        assert table.of(token_id) == token.encode()
        assert (token_id in table.special) is special


def test_an_added_token_in_the_letters_of_the_byte_alphabet_is_still_verbatim(tmp_path: Path) -> None:
    backend = byte_level()
    backend.add_tokens(["éà"])  # letters that are bytes 0xE9 0xE0 in the alphabet
    directory = save(backend, tmp_path)
    token_id = backend.token_to_id("éà")
    assert token_bytes(load_tokenizer(directory), token_id + 1).of(token_id) == "éà".encode()


def test_padded_and_unknown_ids_have_no_bytes(tmp_path: Path) -> None:
    directory = save(sentencepiece(), tmp_path)
    size = load_tokenizer(directory).vocab_size
    table = token_bytes(load_tokenizer(directory), size + 7)
    assert len(table) == size + 7
    assert [table.of(each) for each in (-1, size, size + 6, size + 7, 10**9)] == [b""] * 5


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    directory = save(byte_level(), tmp_path)
    with pytest.raises(TokenizerError, match=r"does not match the model.*vocabulary ends at 99"):
        token_bytes(load_tokenizer(directory), 100)


@pytest.mark.parametrize("decoder", [None, decoders.WordPiece(), decoders.CTC(), decoders.Strip("x", 0, 1)])
def test_other_kinds_of_tokenizers_are_refused(tmp_path: Path, decoder: object) -> None:
    backend = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    if decoder is not None:
        backend.decoder = decoder
    with pytest.raises(TokenizerError, match=r"not supported|are supported"):
        token_bytes(load_tokenizer(save(backend, tmp_path)), 1)
