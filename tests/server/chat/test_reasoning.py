"""What the engine is told of the reasoning before an answer, from the prompt and the model's tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.text.chat_template import ChatTemplate
from server.chat.prompt import ChatPrompt
from server.chat.reasoning import Reasoning, WithoutThoughts, wanted_reasoning
from server.parsing.base import Content, PlainParser, Thought
from server.parsing.reasoning import FORMATS, ReasoningParser, choose_reasoning
from server.schemas.chat import ChatCompletionRequest
from server.text import ModelText
from tests.fakes.text import model_text
from tests.server.parsing.laws import events_of

TEMPLATES = Path(__file__).parents[4] / "shared" / "data" / "chat-templates"
THINK = FORMATS[0]
GRANITE = FORMATS[-1]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    return model_text(tmp_path_factory.mktemp("model"), special=("<think>", "</think>"))


def wanted(text: ModelText, prompt: ChatPrompt | None, message: str = "", **fields: Any) -> Reasoning | None:
    body = ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}], **fields})
    return wanted_reasoning(body, prompt, text, message)


@pytest.mark.parametrize(
    ("rendered", "begun"),
    [
        ("<user>Hi<assistant>", False),
        ("<user>Hi<assistant><think>", True),
        ("<user>Hi<assistant><think>\n", True),
        ("<user>Hi<assistant><think>\n\n</think>\n\n", False),
        ("<user>What is <think>?<assistant>", False),
        ("<user>Hi<assistant></think>4<user>Hi<assistant><think>\n", True),
    ],
)
def test_the_end_of_the_prompt_tells_whether_a_block_is_open(text: ModelText, rendered: str, begun: bool) -> None:
    found = wanted(text, ChatPrompt(rendered, []))
    assert found is not None
    assert found.spec.begun == begun


@pytest.mark.parametrize("continued", ["<think>a</think>b", "<think>a</think>", "An answer"])
def test_an_answer_that_is_continued_cannot_reason(text: ModelText, continued: str) -> None:
    assert wanted(text, ChatPrompt(f"<assistant>{continued}", [], continued)) is None


def test_where_a_grammar_waits_a_block_the_prompt_has_closed_is_not_opened_again(text: ModelText) -> None:
    found = wanted(text, ChatPrompt("<user>Hi<assistant><think>\n\n</think>\n\n", []))
    assert found is not None
    assert found.spec.start_token_ids == ()


def test_a_prompt_without_its_end_has_opened_nothing(text: ModelText) -> None:
    found = wanted(text, None)
    assert found is not None
    assert not found.spec.begun


def test_markers_are_tokens_of_their_own_where_there_are_such(text: ModelText) -> None:
    prompt = ChatPrompt("", [])
    ids = [text.tokenizer.token_to_id(each) for each in (THINK.start, THINK.end)]
    found = wanted(text, prompt, message="So.")
    assert found is not None
    assert [*found.spec.start_token_ids] == ids[:1]
    assert text.tokenizer.decode(found.spec.closing_token_ids, skip_special_tokens=False) == "So.\n</think>"
    assert [*found.special] == ids
    spelled = wanted(replace(text, reasoning_format_name="granite"), prompt)
    assert spelled is not None
    assert text.tokenizer.decode(spelled.spec.start_token_ids) == GRANITE.start
    assert spelled.special == ()


def test_thoughts_can_be_left_out(text: ModelText) -> None:
    pieces = list("<think>a</think>b")
    parser = ReasoningParser(THINK, PlainParser())
    assert events_of(WithoutThoughts(parser), pieces) == [Content("b")]
    raw = wanted(text, ChatPrompt("", []), separate_reasoning=False)
    assert raw is not None
    assert events_of(raw.parser(PlainParser()), pieces) == [Content("<think>a</think>b")]
    apart = wanted(text, ChatPrompt("", []))
    assert apart is not None
    assert events_of(apart.parser(PlainParser()), pieces) == [Thought("a"), Content("b")]


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="there are no chat templates beside the checkout")
def test_forms_of_well_known_templates(tmp_path: Path) -> None:
    tokenizer = model_text(tmp_path).tokenizer
    found = {
        path.stem: choose_reasoning(ChatTemplate(path.read_text()), tokenizer) for path in TEMPLATES.glob("*.jinja")
    }
    assert {name: form.name for name, form in found.items() if form is not None} == {"deepseek-r1-distill": "think"}
