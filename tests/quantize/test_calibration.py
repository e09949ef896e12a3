"""Calibration rows from texts and from models that write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import QuantizationError
from engine.model.config import load_config
from engine.text.tokenizer import load_tokenizer
from quantize.calibration import SELF_WRITTEN, CalibrationRows, RowOptions, rows_from_files, rows_from_model
from quantize.calibration_files import CalibrationFile, CalibrationReader
from quantize.openings import ChatFrame, Openings, read_openings
from tests.quantize.models import write_dense_model


class WordEncoder:
    """One token per word; 0 is BOS."""

    def __init__(self, bos: int | None = 0) -> None:
        self.bos_token_id = bos

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        words = [int(word) if word.isdigit() else 1 for word in text.split()]
        return [self.bos_token_id, *words] if add_special_tokens and self.bos_token_id is not None else words


def _numbers(path: Path, count: int) -> Path:
    path.write_text(" ".join(str(number) for number in range(10, 10 + count)))
    return path


def _rows(path: Path, encoder: WordEncoder, rows: int, length: int, check_rows: int = 0) -> CalibrationRows:
    reader = CalibrationReader(encoder, None, None)
    return rows_from_files([CalibrationFile(path, 1.0)], reader, encoder, RowOptions(rows, length, check_rows))


def test_windows_are_spread_over_the_text(tmp_path: Path) -> None:
    rows = _rows(_numbers(tmp_path / "text.txt", 100), WordEncoder(), rows=4, length=6)
    assert rows.dataset == "text.txt"
    assert rows.tokens.dtype == torch.int32
    assert rows.tokens.tolist() == [[0, *range(start, start + 5)] for start in (10, 35, 60, 85)]
    without = _rows(tmp_path / "text.txt", WordEncoder(None), rows=20, length=5)
    assert without.tokens.flatten().tolist() == list(range(10, 110))


def test_texts_that_will_not_do_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"100 tokens, but 30 rows of 6 need 150.*20 at most"):
        _rows(_numbers(tmp_path / "text.txt", 100), WordEncoder(), rows=30, length=6)
    with pytest.raises(QuantizationError, match="does not exist"):
        _rows(tmp_path / "missing", WordEncoder(), rows=1, length=6)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(QuantizationError, match="not UTF-8"):
        _rows(tmp_path / "latin", WordEncoder(), rows=1, length=6)


def test_long_texts_are_encoded_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("12345678\n" * 200_000)
    rows = _rows(tmp_path / "text", WordEncoder(), rows=200, length=1000 + 1)
    assert bool((rows.tokens[:, 1:] == 12345678).all())


class CountingGenerator:
    """Continues every prompt with its call number, `length` times."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.prompts: list[list[list[int]]] = []
        self.seeds: list[int] = []

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        self.prompts.append(prompts_token_ids)
        self.seeds.append(seed)
        return [[100 + len(self.prompts)] * min(self.length, max_tokens) for _ in prompts_token_ids]


def test_short_texts_fill_rows_together() -> None:
    generator = CountingGenerator(3)
    rows = rows_from_model(generator, Openings((1,), None, 2), RowOptions(2, 8, 0), seed=5)
    assert rows.dataset == SELF_WRITTEN
    assert rows.tokens.shape == (2, 8)
    assert rows.tokens[0].tolist() == [1, 101, 101, 101, 2, 1, 101, 101]
    assert generator.prompts[0] == [[1], [1]]
    again = CountingGenerator(3)
    rows_from_model(again, Openings((1,), None, 2), RowOptions(2, 8, 0), seed=5)
    assert again.seeds == generator.seeds
    assert len(set(again.seeds)) == len(again.seeds)


@pytest.mark.parametrize("chat", [None, ChatFrame((7, 8), (9,))])
def test_a_few_rounds_do_for_a_model_of_few_words(chat: ChatFrame | None) -> None:
    generator = CountingGenerator(2)
    rows = rows_from_model(generator, Openings((1,), chat, 2), RowOptions(50, 512, 0), seed=0)
    assert rows.tokens.shape == (50, 512)
    assert len(generator.prompts) <= (2 if chat is None else 4)
    assert sum(map(len, generator.prompts)) < 2 * 50 * 512


def test_a_row_that_is_full_stays_within_the_context() -> None:
    generator = CountingGenerator(100)
    rows = rows_from_model(generator, Openings((1,), None, 2), RowOptions(2, 8, 0), seed=0)
    assert len(generator.prompts) == 1
    assert rows.tokens.tolist() == [[1, *[101] * 7]] * 2


def test_texts_that_fill_their_row_are_not_ended() -> None:
    rows = rows_from_model(CountingGenerator(100), Openings((1,), None, 2), RowOptions(1, 8, 0), seed=0)
    assert rows.tokens[0].tolist() == [1, *[101] * 7]


def test_chat_models_write_question_and_answer() -> None:
    generator = CountingGenerator(2)
    rows = rows_from_model(generator, Openings((1,), ChatFrame((7, 8), (9,)), 2), RowOptions(1, 11, 0), seed=0)
    assert generator.prompts[0] == [[7, 8]]
    assert generator.prompts[1] == [[7, 8, 101, 101, 9]]
    assert rows.tokens[0].tolist() == [7, 8, 101, 101, 9, 102, 102, 2, 7, 8, 103]


def test_models_that_do_not_write_are_refused() -> None:
    with pytest.raises(QuantizationError, match="next to nothing"):
        rows_from_model(CountingGenerator(0), Openings((1,), None, 2), RowOptions(1, 8, 0), seed=0)
    with pytest.raises(QuantizationError, match="no token that begins a text"):
        rows_from_model(CountingGenerator(5), Openings((), None, None), RowOptions(1, 8, 0), seed=0)


def test_openings_come_from_template_tokenizer_and_config(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path)
    tokenizer, config = load_tokenizer(model), load_config(model)
    assert read_openings(model, tokenizer, config) == Openings((1,), None, 0)
    template = "{% for m in messages %}<user>{{ m.content }}</user>{% endfor %}<bot>"
    (model / "chat_template.jinja").write_text(template)
    chat = read_openings(model, tokenizer, config).chat
    assert chat is not None
    assert tokenizer.decode(chat.before) == "<user>"
    assert tokenizer.decode(chat.after) == "</user><bot>"
    for refusing in ("{{ raise_exception('no') }}", "never shows the question"):
        (model / "chat_template.jinja").write_text(refusing)
        assert read_openings(model, tokenizer, config).chat is None
