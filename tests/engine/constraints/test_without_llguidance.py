"""The engine without llguidance: it starts, serves whoever has no grammar, and says what is missing to who has one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.constraints.grammar import GrammarCompiler
from engine.errors import InvalidRequestError
from engine.text.token_bytes import TokenBytes
from engine.types import GrammarKind, GrammarSpec


def test_nothing_imports_it_before_there_is_a_grammar() -> None:
    program = """
import sys
import engine.build, engine.step_loop, engine.grammar_process, engine.constraints.grammar_trial, server.app
print("llguidance" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_a_grammar_is_refused_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    compiler = GrammarCompiler(TokenBytes([b"a", b""], frozenset({1})), [1])
    with pytest.raises(InvalidRequestError, match="llguidance") as caught:
        compiler.compile(GrammarSpec(GrammarKind.REGEX, "a"))
    assert caught.value.code == "unsupported_parameter"
