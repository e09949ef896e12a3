"""Local models and the text generator over an engine that is scripted, in place of a process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from engine.async_engine import AsyncEngine
from engine.config import EngineConfig, ReasoningFormatName
from engine.errors import InvalidRequestError
from engine.text.chat_template import ChatTemplate
from engine.text.defaults import GenerationDefaults
from engine.text.tokenizer import load_tokenizer
from engine.types import Finish, FinishReason, GenerationRequest, OutputDelta, SamplingParams
from quire.answers import AnswerPiece
from quire.local_model import LocalModel, open_local_model
from quire.sampling_flags import sampling_params
from quire.text_generator import open_text_generator
from server.text import ModelText
from tests.engine.text.make_tokenizers import save, sentencepiece
from tests.fakes.engine import MODEL

CTRL_C = b"\x03"


class ScriptedEngine:
    """Sends the bytes it was given, one delta each; CTRL_C among them is pressed first."""

    def __init__(self, data: Sequence[bytes]) -> None:
        self._data = data
        self.model = MODEL
        self.requests: list[GenerationRequest] = []
        self.aborted = 0
        self.closed = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[OutputDelta, None]:
        self.requests.append(request)
        try:
            for index, each in enumerate(self._data):
                if each == CTRL_C:
                    signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0)
                yield OutputDelta(request.request_id, 0, (index,), each)
            yield OutputDelta(request.request_id, 0, (), b"", finish=Finish(FinishReason.STOP))
        except (GeneratorExit, asyncio.CancelledError):
            self.aborted += 1
            raise

    async def close(self) -> None:
        self.closed += 1


def model_over(
    engine: ScriptedEngine, runner: asyncio.Runner, directory: Path, template: str | None = None
) -> LocalModel:
    tokenizer = load_tokenizer(save(sentencepiece(), directory))
    text = ModelText(tokenizer, ChatTemplate(template) if template else None, GenerationDefaults())
    return LocalModel(runner, engine, text, SamplingParams(max_tokens=None))  # type: ignore[arg-type]


def test_characters_cut_between_tokens_arrive_whole(tmp_path: Path) -> None:
    engine = ScriptedEngine([b"caf\xc3", b"\xa9 ", b"\xe6\x97"])
    with asyncio.Runner() as runner:
        pieces = list(model_over(engine, runner, tmp_path).continuation("hello"))
    assert pieces == [AnswerPiece("caf"), AnswerPiece("é "), AnswerPiece(""), AnswerPiece("\ufffd", "stop")]
    assert engine.requests[0].prompt_token_ids[0] == 1  # a text begins with BOS


def test_a_conversation_goes_through_the_template(tmp_path: Path) -> None:
    engine = ScriptedEngine([b"x"])
    with asyncio.Runner() as runner:
        model = model_over(engine, runner, tmp_path, "<s>{{ messages[0].content }}")
        list(model.answer([{"role": "user", "content": "hello"}]))
    tokenizer = load_tokenizer(tmp_path)
    assert list(engine.requests[0].prompt_token_ids) == tokenizer.encode("<s>hello", add_special_tokens=False)


THINKS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>{# </think> #}"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_are_told_from_the_answer(tmp_path: Path, size: int) -> None:
    answer = b"<think>\nI see.\n</think>\n\nIt is 4."
    engine = ScriptedEngine([answer[place : place + size] for place in range(0, len(answer), size)])
    with asyncio.Runner() as runner:
        pieces = list(model_over(engine, runner, tmp_path, THINKS).answer([{"role": "user", "content": "2+2?"}]))
    assert "".join(piece.thoughts for piece in pieces) == "I see."
    assert "".join(piece.text for piece in pieces) == "It is 4."
    assert pieces[-1].finish_reason == "stop"
    assert engine.requests[0].sampling.reasoning is not None  # stop strings are looked for in the answer alone


def test_what_the_prompt_has_opened_is_thought_from_the_start(tmp_path: Path) -> None:
    engine = ScriptedEngine([b"I see.</think>", b"4."])
    with asyncio.Runner() as runner:
        model = model_over(engine, runner, tmp_path, THINKS + "<think>")
        pieces = list(model.answer([{"role": "user", "content": "2+2?"}]))
    assert [(piece.thoughts, piece.text) for piece in pieces] == [("I see.", ""), ("", "4."), ("", "")]


def test_roles_are_repaired_as_by_the_server(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    engine = ScriptedEngine([b"x"])
    with asyncio.Runner() as runner:
        messages = [{"role": "system", "content": "ab"}, {"role": "user", "content": "cd"}]
        list(model_over(engine, runner, tmp_path, template).answer(messages))
    prompt = load_tokenizer(tmp_path).decode(engine.requests[0].prompt_token_ids)
    assert prompt.strip() == "<user>ab\n\ncd"


def test_a_message_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with asyncio.Runner() as runner, pytest.raises(InvalidRequestError, match="lone surrogate"):
        model_over(ScriptedEngine([]), runner, tmp_path, THINKS).answer([{"role": "user", "content": "\ud800"}])


def test_without_a_template_there_is_no_conversation(tmp_path: Path) -> None:
    with asyncio.Runner() as runner, pytest.raises(InvalidRequestError, match="no chat template"):
        model_over(ScriptedEngine([]), runner, tmp_path).answer([])


def test_closing_an_answer_aborts_it(tmp_path: Path) -> None:
    engine = ScriptedEngine([b"a"] * 100)
    with asyncio.Runner() as runner:
        pieces = model_over(engine, runner, tmp_path).continuation("hello")
        next(pieces)
        pieces.close()
        assert engine.aborted == 1


def test_ctrl_c_aborts_the_answer_and_the_model_can_be_asked_again(tmp_path: Path) -> None:
    engine = ScriptedEngine([b"a", CTRL_C, b"b"])
    with asyncio.Runner() as runner:
        model = model_over(engine, runner, tmp_path)
        pieces = model.continuation("hello")
        assert next(pieces) == AnswerPiece("a")
        with pytest.raises(KeyboardInterrupt):
            next(pieces)
        assert engine.aborted == 1
        assert next(model.continuation("hello")) == AnswerPiece("a")


def test_flags_win_over_the_models_defaults() -> None:
    defaults = GenerationDefaults(temperature=0.3, top_p=0.9, max_tokens=50, eos_token_ids=(2,))
    assert sampling_params({}, defaults) == SamplingParams(max_tokens=50, temperature=0.3, top_p=0.9)
    assert sampling_params({"temperature": 0.0, "stop": ["x"]}, GenerationDefaults()) == SamplingParams(
        max_tokens=None, temperature=0.0, stop=["x"]
    )
    with pytest.raises(InvalidRequestError, match="top_p must be between 0 and 1"):
        sampling_params({"top_p": 2.0}, defaults)


def test_self_generated_text(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine([b"a", b"b", b"c"])
    started: list[EngineConfig] = []

    async def start(config: EngineConfig) -> ScriptedEngine:
        started.append(config)
        return engine

    monkeypatch.setattr(AsyncEngine, "start", start)
    with open_text_generator(EngineConfig(model="m")) as generator:
        assert generator.generate([[1], [1, 2]], 7, 5) == [[0, 1, 2]] * 2
        assert generator.generate([[3]], 8, 9) == [[0, 1, 2]]
        assert (started, engine.closed) == ([EngineConfig(model="m")], 0)
    assert engine.closed == 1
    assert [request.prompt_token_ids for request in engine.requests] == [(1,), (1, 2), (3,)]
    assert [request.sampling for request in engine.requests] == [
        SamplingParams(max_tokens=most, temperature=1.0, seed=seed) for most, seed in ((7, 5), (7, 6), (8, 9))
    ]


@pytest.mark.parametrize(("name", "thoughts"), [("auto", "I see."), ("none", "")])
def test_the_setting_for_marks_of_reasoning_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: ReasoningFormatName, thoughts: str
) -> None:
    engine = ScriptedEngine([b"<think>I see.</think>4."])

    async def start(_config: EngineConfig) -> ScriptedEngine:
        return engine

    monkeypatch.setattr(AsyncEngine, "start", start)
    save(sentencepiece(), tmp_path)
    (tmp_path / "chat_template.jinja").write_text(THINKS)
    with open_local_model(EngineConfig(model=str(tmp_path), reasoning_format=name), {}) as model:
        pieces = list(model.answer([{"role": "user", "content": "2+2?"}]))
    assert "".join(piece.thoughts for piece in pieces) == thoughts
