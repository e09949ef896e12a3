"""Answers drawn at random from a grammar, token by token, as a model would give them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.constraints.base import TokenConstraint
from engine.constraints.grammar import GrammarCompiler
from engine.text.token_bytes import TokenBytes, token_bytes
from engine.text.tokenizer import load_tokenizer
from engine.types import GrammarKind, GrammarSpec
from server.parsing.tool_format import Part

_DEMO = Path(__file__).parents[3] / "demo" / "quire-demo"
_CLOSING = (b'"', b"'", b",", b")", b"}", b"]", b"</", b'"}', b"1", b"e")
"""What brings an answer nearer to its end."""


class Vocabulary:
    """The demo model's tokens, with markers as special tokens behind them.

    Args:
        markers: these.
        endings: of texts that may go on for ever; written where an answer is to end.

    Attributes:
        special: ids of the markers.
    """

    def __init__(self, markers: Sequence[str] = (), endings: Sequence[str] = ()) -> None:
        tokenizer = load_tokenizer(_DEMO)
        size = tokenizer.vocab_size
        known = token_bytes(tokenizer, size)
        self.special = {marker: size + index for index, marker in enumerate(markers)}
        table = [known.of(token_id) for token_id in range(size)] + [marker.encode() for marker in markers]
        self._tokens = TokenBytes(table, known.special | frozenset(self.special.values()))
        self._end = tokenizer.eos_token_id or 0
        self._compiler = GrammarCompiler(self._tokens, [self._end])
        self._closing = np.array([known.of(token_id) in _CLOSING for token_id in range(size)] + [True] * len(markers))
        self._closing[self._end] = True
        single = {known.of(token_id): token_id for token_id in range(size) if len(known.of(token_id)) == 1}
        self._endings = [[single[bytes([byte])] for byte in ending.encode()] for ending in endings]

    def answer(self, grammar: Part, seed: int, length: int = 60) -> str:
        """An answer, made to end once it has so many tokens."""
        constraint = self._compiler.compile(GrammarSpec(GrammarKind.TREE, json.dumps(grammar))).constraint()
        draw = random.Random(seed)
        data = b""
        for step in range(20 * length):
            allowed = self._allowed(constraint)
            if step >= length and allowed[self._end]:
                return data.decode()
            if step >= length or draw.random() < 0.3:
                data += self._ended(constraint)
                allowed = self._allowed(constraint)
                ending = allowed & self._closing
                allowed = ending if ending.any() else allowed
            token = int(draw.choice(np.flatnonzero(allowed)))
            if token == self._end:
                return data.decode()
            constraint.advance(token)
            data += self._tokens.of(token)
            if constraint.complete:
                return data.decode()
        raise AssertionError(f"no end in sight: {data[-200:]!r}")

    def _allowed(self, constraint: TokenConstraint) -> npt.NDArray[np.bool_]:
        """Which tokens may come next."""
        bits = np.unpackbits(constraint.mask().view(np.uint8), count=len(self._tokens), bitorder="little")
        return bits.astype(np.bool_)

    def _ended(self, constraint: TokenConstraint) -> bytes:
        """Write the first ending that may stand here; gives it."""
        for ending in self._endings:
            for written, token in enumerate(ending):
                if not self._allowed(constraint)[token]:
                    constraint.rewind(written)
                    break
                constraint.advance(token)
            else:
                return b"".join(self._tokens.of(token) for token in ending)
        return b""
