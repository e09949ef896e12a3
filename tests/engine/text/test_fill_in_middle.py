from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken

from engine.text.fill_in_middle import FORMS, GapForm, fill_in_middle
from engine.text.tokenizer import Tokenizer, load_tokenizer
from tests.engine.text.make_tokenizers import byte_level, save, sentencepiece

CODE_LLAMA = next(form for form in FORMS if form.joins)


def with_tokens(directory: Path, tokenizer: tokenizers.Tokenizer, *tokens: str) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    return load_tokenizer(save(tokenizer, directory))


def tokens_of(form: GapForm) -> list[str]:
    return [token for token in (form.prefix, form.suffix, form.middle) if token]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.prefix + form.middle)
def test_each_family_is_known_by_its_tokens(tmp_path: Path, form: GapForm) -> None:
    tokenizer = with_tokens(tmp_path, byte_level(), *tokens_of(form), *form.ends[:1])
    gap = fill_in_middle(tokenizer)
    assert gap is not None
    assert gap.form is form
    assert gap.end_token_ids == tuple(tokenizer.token_to_id(token) for token in form.ends[:1])
    text = tokenizer.decode(gap.prompt(tokenizer.encode("def f(", False), "):"), skip_special_tokens=False)
    before, after = f"{form.prefix}def f(", f"{form.suffix}):"
    assert (
        text.replace(" ", "")
        == (after + before if form.suffix_first else before + after).replace(" ", "") + form.middle
    )


def test_a_text_begins_as_the_model_expects(tmp_path: Path) -> None:
    tokenizer = with_tokens(tmp_path, byte_level(), *tokens_of(FORMS[0]))
    gap = fill_in_middle(tokenizer)
    assert gap is not None
    assert gap.prompt([5], "", [9])[:3] == [9, tokenizer.token_to_id(FORMS[0].prefix), 5]


@pytest.mark.parametrize("tokens", [(), ("<|fim_prefix|>", "<|fim_suffix|>"), ("[PREFIX]",)])
def test_a_model_without_all_of_the_tokens_was_not_taught_to(tmp_path: Path, tokens: tuple[str, ...]) -> None:
    assert fill_in_middle(with_tokens(tmp_path, byte_level(), *tokens)) is None


def test_words_that_are_merely_spelled_so_do_not_count(tmp_path: Path) -> None:
    tokenizer = byte_level()
    assert tokenizer.token_to_id("h") is not None
    assert "h" not in {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    form = GapForm("h", "e", "l")
    assert form not in FORMS
    assert fill_in_middle(with_tokens(tmp_path, tokenizer)) is None


def test_what_comes_after_a_gap_gets_no_space_that_is_not_in_it(tmp_path: Path) -> None:
    tokenizer = with_tokens(tmp_path, sentencepiece(), *tokens_of(CODE_LLAMA))
    gap = fill_in_middle(tokenizer)
    assert gap is not None
    ids = gap.prompt(tokenizer.encode("he", False), "ll")
    assert [tokenizer.id_to_token(each) for each in ids] == ["▁<PRE>", "▁he", "▁<SUF>", "ll", "▁<MID>"]
    spaced = gap.prompt([], " he")
    assert [tokenizer.id_to_token(each) for each in spaced] == ["▁<PRE>", "▁<SUF>", "▁he", "▁<MID>"]
