"""Which clients there are, and where what is asked of each stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

CHECKS = Path(__file__).parent / "checks"
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "clients"

CAPABILITIES = {
    "plain": "plain",
    "streaming": "streaming",
    "tools": "tools",
    "structured": "structured",
    "logprobs": "log-probabilities",
    "errors": "errors",
    "cancel": "cancel",
    "reasoning": "reasoning",
    "embeddings": "embeddings",
}
"""Columns of the table, by the word with which the name of a check begins."""


class Language(StrEnum):
    """What a client is written in."""

    PYTHON = "Python"
    NODE = "JavaScript"


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the table.

    Attributes:
        key: what it is called on the command line, and what its files are named after.
        package: what its users install, and whose version is shown.
        language: decides what runs its checks.
        note: shown beside the package, where that does not say it all.
        serving: further options of `quire serve`, for a server of its own.
        borrows_torch: it wants torch, which is gigabytes: it gets that of the interpreter that runs the matrix.
    """

    key: str
    package: str
    language: Language = Language.PYTHON
    note: str = ""
    serving: tuple[str, ...] = ()
    borrows_torch: bool = False

    @property
    def checks(self) -> Path:
        """The file of its checks."""
        if self.language is Language.NODE:
            return CHECKS / "node" / f"{self.key}.test.mjs"
        return CHECKS / f"check_{self.key.replace('-', '_')}.py"

    @property
    def requirements(self) -> Path:
        """What its environment is made of.

        For Python each client has a file, and an environment, of its own: the newest versions of some exclude those of
        others, and so it is at its users'.
        """
        if self.language is Language.NODE:
            return CHECKS / "node" / "package-lock.json"
        return REQUIREMENTS / f"{self.key}.txt"


CLIENTS = (
    Client("openai", "openai", note="Python, strict validation"),
    Client("openai-npm", "openai", Language.NODE, note="npm"),
    Client("ai-sdk", "@ai-sdk/openai-compatible", Language.NODE, note="npm"),
    Client("litellm", "litellm"),
    Client("langchain", "langchain-openai"),
    Client("llama-index", "llama-index-llms-openai-like"),
    Client("instructor", "instructor"),
    Client("pydantic-ai", "pydantic-ai-slim", note="what `pydantic-ai` is, without the other providers"),
    Client("openai-agents", "openai-agents", note="chat mode"),
    Client("lm-eval", "lm-eval", note="local-completions and local-chat-completions"),
    Client("guidellm", "guidellm", note="load", borrows_torch=True),
    Client(
        "schemathesis",
        "schemathesis",
        note="fuzz from the OpenAPI document",
        serving=("--max-model-len", "64"),  # for short answers: what it asks for is random, the length too
    ),
)
