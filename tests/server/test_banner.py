from __future__ import annotations

import json
import shlex

import pytest

from server.banner import banner, base_url
from server.config import ServerConfig
from tests.fakes.engine import MODEL


def test_says_what_a_person_wants_to_know() -> None:
    text = banner(MODEL, ("mine", "alias"), ServerConfig(), "http://127.0.0.1:8000/v1", chat=True)
    for fact in (
        "mine, alias (LlamaForCausalLM, 1.23M parameters)",
        "exl2, 4.03 bits per weight (head 6.00)",
        "cpu, 2 threads",
        "cpu-avx2",
        "4,096 tokens, 1.0 MiB (float16)",
        "256 tokens",
        "http://127.0.0.1:8000/v1",
    ):
        assert fact in text


@pytest.mark.parametrize("chat", [True, False])
def test_the_curl_line_can_be_pasted(chat: bool) -> None:
    config = ServerConfig(api_key=("secret",))
    text = banner(MODEL, ("it's",), config, "http://127.0.0.1:8000/v1", chat=chat)
    assert "secret" not in text
    line = next(line for line in text.splitlines() if "curl" in line)
    words = shlex.split(line)
    assert words[1].endswith("/v1/chat/completions" if chat else "/v1/completions")
    assert json.loads(words[-1])["model"] == "it's"
    assert "Authorization: Bearer YOUR_KEY" in words


def test_urls() -> None:
    assert base_url("0.0.0.0", 80) == "http://127.0.0.1:80/v1"
    assert base_url("0.0.0.0", 443, tls=True) == "https://127.0.0.1:443/v1"
    assert base_url("::1", 8000) == "http://[::1]:8000/v1"
    assert base_url("box.lan", 8000) == "http://box.lan:8000/v1"
