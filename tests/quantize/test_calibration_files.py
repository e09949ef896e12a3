"""Calibration texts in all their forms, and how rows are shared out among them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from engine.errors import ConfigError, QuantizationError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from quantize.calibration import RowOptions, rows_from_files
from quantize.calibration_files import CalibrationFile, CalibrationReader, parse_calibration_file
from tests.quantize.models import write_dense_model


class Letters:
    """One token per character; 0 is BOS."""

    bos_token_id = 0

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [0] * add_special_tokens + [ord(each) for each in text]


TEMPLATE = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}")
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]


def _read(path: Path, template: ChatTemplate | None = TEMPLATE, end: int | None = 1) -> list[int]:
    return CalibrationReader(Letters(), template, end).tokens(path)


def _jsonl(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_json_lines_are_texts_and_conversations(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", {"text": "ab", "id": 3}, {"messages": CHAT}, {"text": "c"})
    assert _read(path) == [*map(ord, "ab"), 1, *map(ord, "<user>Hi;<assistant>Yo;"), ord("c"), 1]
    assert _read(path, end=None) == [*map(ord, "ab<user>Hi;<assistant>Yo;c")]


def test_lines_end_only_where_json_lines_end(tmp_path: Path) -> None:
    """Inside a JSON string other characters may stand that end lines for Python."""
    text = "a\u2028b\u0085c"
    path = tmp_path / "a.jsonl"
    path.write_text(f'{json.dumps({"text": text}, ensure_ascii=False)}\r\n{{"text": "d"}}\r\n', encoding="utf-8")
    assert _read(path, end=None) == [*map(ord, text), ord("d")]


def test_anything_else_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text('{"text": 1}')
    assert _read(tmp_path / "a.md") == [*map(ord, '{"text": 1}')]


def test_rows_that_will_not_do_are_named(tmp_path: Path) -> None:
    good = {"text": "ab"}
    for row, message in (
        ({"prompt": "x", "answer": "y"}, r"Row 2 of .*a\.jsonl has neither `text` nor `messages`, but answer, prompt"),
        ({"messages": ["x"]}, r"Row 2 of .*a\.jsonl: `messages` must be a list of objects, or `text` a string"),
        ({"text": 5}, r"Row 2 of .*a\.jsonl: `messages` must be a list of objects, or `text` a string"),
        ([1], r"Line 2 of .*a\.jsonl is not a JSON object"),
    ):
        with pytest.raises(QuantizationError, match=message):
            _read(_jsonl(tmp_path / "a.jsonl", good, row))
    strict = ChatTemplate("{{ raise_exception('no system, please') }}")
    with pytest.raises(QuantizationError, match="does not suit the model's chat template: no system, please"):
        _read(_jsonl(tmp_path / "a.jsonl", {"messages": CHAT}), template=strict)
    with pytest.raises(QuantizationError, match="but this model has no chat template"):
        _read(_jsonl(tmp_path / "a.jsonl", {"messages": CHAT}), template=None)
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": ')
    with pytest.raises(QuantizationError, match=r"Line 2 of .* is not JSON"):
        _read(tmp_path / "a.jsonl")
    with pytest.raises(QuantizationError, match="does not exist"):
        _read(tmp_path / "b.jsonl")


def test_a_row_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_dense_model(tmp_path / "model"))
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": "x\\ud800"}\n')
    with pytest.raises(QuantizationError, match=r"Row 2 of .*a\.jsonl.*character 1 is a lone surrogate"):
        CalibrationReader(tokenizer, None, None).tokens(path)


def test_parquet_asks_for_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(QuantizationError, match="pip install pyarrow"):
        _read(tmp_path / "a.parquet")


def test_parquet_rows_are_texts_or_conversations(tmp_path: Path) -> None:
    texts = pa.table({"id": [1, 2], "text": ["ab", "c"]})
    parquet.write_table(texts, tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet") == [*map(ord, "ab"), 1, ord("c"), 1]

    chats = pa.table({"messages": [CHAT, CHAT[:1]], "source": ["x", "y"]})
    parquet.write_table(chats, tmp_path / "b.parquet", row_group_size=1)
    lines = _jsonl(tmp_path / "b.jsonl", {"messages": CHAT}, {"messages": CHAT[:1]})
    assert _read(tmp_path / "b.parquet") == _read(lines)


def test_a_parquet_file_of_no_use_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but nothing else")
    with pytest.raises(QuantizationError, match=r"broken\.parquet cannot be read"):
        _read(tmp_path / "broken.parquet")
    parquet.write_table(pa.table({"prompt": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(QuantizationError, match="neither a column `text` nor `messages`, but prompt"):
        _read(tmp_path / "other.parquet")


def test_weights_share_the_rows_out(tmp_path: Path) -> None:
    files = []
    for name, weight in (("a", 1.0), ("b", 3.0)):
        (tmp_path / name).write_text(name * 1000)
        files.append(CalibrationFile(tmp_path / name, weight))
    rows = rows_from_files(files, CalibrationReader(Letters(), None, None), Letters(), RowOptions(8, 11, 3))
    assert rows.sources == ("a", "a", *["b"] * 6)
    assert rows.tokens[:, 0].tolist() == [0] * 8
    assert rows.tokens[:, 1].tolist() == [ord(each) for each in "aabbbbbb"]
    assert rows.dataset == "a + b"
    assert 1 <= len(rows.check) <= 3
    with pytest.raises(QuantizationError, match="would get none of the 1 rows"):
        rows_from_files(files, CalibrationReader(Letters(), None, None), Letters(), RowOptions(1, 11, 0))


def test_check_rows_are_not_calibrated_on(tmp_path: Path) -> None:
    text = "".join(chr(500 + index) for index in range(400))
    (tmp_path / "a").write_text(text)
    files = [CalibrationFile(tmp_path / "a", 1.0)]
    reader = CalibrationReader(Letters(), None, None)
    rows = rows_from_files(files, reader, Letters(), RowOptions(10, 11, 4))
    seen = set(rows.tokens[:, 1:].flatten().tolist())
    assert len(rows.check) == 4
    assert not seen & set(rows.check[:, 1:].flatten().tolist())
    tight = rows_from_files(files, reader, Letters(), RowOptions(30, 11, 4))
    assert tight.check.shape == (0, 11)


def test_files_with_weights_are_written_with_a_colon(tmp_path: Path) -> None:
    assert parse_calibration_file("a.txt") == CalibrationFile(Path("a.txt"), 1.0)
    assert parse_calibration_file("a.txt:2.5") == CalibrationFile(Path("a.txt"), 2.5)
    assert parse_calibration_file("x:1/a.txt") == CalibrationFile(Path("x:1/a.txt"), 1.0)
    (tmp_path / "a:3").touch()
    assert parse_calibration_file(f"{tmp_path}/a:3") == CalibrationFile(tmp_path / "a:3", 1.0)
    for word in ("", ":2", "a.txt:0", "a.txt:-1", "a.txt:x", "a.txt:inf"):
        with pytest.raises(ConfigError, match="FILE or FILE:WEIGHT"):
            parse_calibration_file(word)
