"""Fields that are not implemented and would change the answer: refused by name where they ask for something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRequestError
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.fields import refuse_unsupported
from server.schemas.refused import REFUSED, REFUSED_BY_OTHER_ROUTES, RefusedField

PAGE = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")


def _chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(messages=[{"role": "user", "content": "Hi"}], **fields)  # type: ignore[list-item]


def test_a_number_is_neutral_as_integer_and_as_float_and_a_boolean_is_no_number() -> None:
    field = RefusedField((1,))

    assert [field.asks_for_nothing(each) for each in (None, 1, 1.0, True, 2, "1")] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("name", "neutral", "asking"),
    [("mirostat", 0, 2), ("typical_p", 1.0, 0.9), ("use_beam_search", False, True), ("dry_multiplier", 0.0, 0.8)],
)
def test_samplers_of_other_servers_are_refused_where_they_do_something(name: str, neutral: Any, asking: Any) -> None:
    refuse_unsupported(_chat(**{name: neutral}))
    with pytest.raises(InvalidRequestError, match=f"'{name}' is not supported"):
        refuse_unsupported(_chat(**{name: asking}))


def test_a_field_of_another_route_is_refused_at_the_top_only() -> None:
    with pytest.raises(InvalidRequestError, match=r"'max_completion_tokens' is not supported .* elsewhere it is"):
        refuse_unsupported(CompletionRequest(prompt="Hi", max_completion_tokens=9))  # type: ignore[call-arg]
    with pytest.raises(InvalidRequestError, match="'prompt' is not supported by this server here"):
        refuse_unsupported(_chat(prompt="Hi"))
    refuse_unsupported(_chat(stream_options={"prompt": "Hi"}, n=2, stream=True, top_logprobs=1))


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BY_OTHER_ROUTES])
def test_the_page_names_every_field_that_is_refused(name: str) -> None:
    assert f"`{name}`" in PAGE
