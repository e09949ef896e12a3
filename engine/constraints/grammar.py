"""Answers that follow a grammar: llguidance says after each token which ones may come next.

llguidance is imported when the first grammar is compiled; an engine nobody asks for one does without it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.constraints.base import TokenMask
from engine.constraints.grammar_source import json_schemas, lark_source
from engine.constraints.schema_faults import schema_fault
from engine.errors import ConstraintError, InvalidRequestError
from engine.text.token_bytes import TokenBytes
from engine.types import GrammarSpec

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MOST_SECONDS = 0.1
"""What one mask may take of the processor's time, while everybody waits for it."""

MOST_OF_A_REASON = 500
"""Characters of llguidance's own words in an error."""

_PLACE = re.compile(r"^at 1\(8\): ")  # behind our own `start: `
_SHOWN = re.compile(r"\s*(?:\d+ \| |\^+\s*$)")


class GrammarCompiler:
    """Compiles grammars for the tokens of one model. Safe to use from several threads, of which others go on meanwhile.

    Args:
        tokens: bytes of every token. Those of special tokens are never part of a text.
        end_token_ids: tokens that end an answer, special or not.
    """

    def __init__(self, tokens: TokenBytes, end_token_ids: Sequence[int]) -> None:
        self._tokens = tokens
        self._end_token_ids = tuple(end_token_ids)
        self._making = threading.Lock()

    def compile(self, spec: GrammarSpec) -> MatcherGrammar:
        """Compile a grammar, up to and including the first mask.

        Raises:
            InvalidRequestError: it is wrong, asks for what cannot be honoured, is too complex, or leaves no answer.
        """
        source = lark_source(spec)
        try:
            from llguidance import LLMatcher
        except ImportError as problem:
            raise InvalidRequestError(
                "Structured outputs need the package 'llguidance', which is not installed here.",
                param="grammar",
                code="unsupported_parameter",
            ) from problem
        with self._making:
            tokenizer, limits = self._tokenizer, self._limits
        matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits)
        first = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            raise InvalidRequestError(f"The grammar cannot be used: {_reason(matcher, spec)}", param="grammar")
        if not self._goes_on(np.frombuffer(first, np.uint32)):
            raise InvalidRequestError("The grammar allows nothing but an empty answer.", param="grammar")
        return MatcherGrammar(matcher, len(self._tokens))

    def _goes_on(self, mask: TokenMask) -> bool:
        """Whether a mask has a token that does not end the answer."""
        ends = sum(int(mask[token_id // 32]) >> token_id % 32 & 1 for token_id in set(self._end_token_ids))
        return int(np.bitwise_count(mask).sum()) > ends

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        wrapper = TokenizerWrapper(_TokenTable(self._tokens, self._end_token_ids))
        return LLTokenizer(wrapper, eos_token=list(self._end_token_ids) or None)

    @cached_property
    def _limits(self) -> LLParserLimits:
        """How complex a grammar may be. What a mask costs is bounded by the two of `step`: some milliseconds."""
        from llguidance import LLParserLimits

        return LLParserLimits(
            initial_lexer_fuel=1_000_000,
            max_items_in_row=300,
            step_lexer_fuel=100_000,
            step_max_items=5_000,
            max_lexer_states=50_000,
            max_grammar_size=500_000,
            verbose_errors=False,
        )


class MatcherGrammar:
    """A `CompiledGrammar`; made by `GrammarCompiler`."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def constraint(self, request_id: str = "", stop_token_ids: Sequence[int] = ()) -> GrammarConstraint:
        """As `CompiledGrammar.constraint`."""
        return GrammarConstraint(self._matcher.deep_copy(), self._vocab_size, request_id, stop_token_ids)


class GrammarConstraint:
    """The `TokenConstraint` of a grammar."""

    def __init__(
        self, matcher: LLMatcher, vocab_size: int, request_id: str = "", stop_token_ids: Sequence[int] = ()
    ) -> None:
        self._matcher = matcher
        self._num_words = -(-vocab_size // 32)
        self._request_id = request_id
        self._stops = np.zeros(self._num_words, np.uint32)
        for token_id in stop_token_ids:
            self._stops[token_id // 32] |= np.uint32(1 << token_id % 32)
        self._mask: TokenMask | None = None  # of the present state, once it was asked for

    @property
    def complete(self) -> bool:
        """Whether nothing but an end token can follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def is_free(self, ahead: int = 0) -> bool:  # noqa: ARG002 - the protocol's
        """As `TokenConstraint.is_free`: never."""
        return False

    def mask(self) -> TokenMask:
        """As `TokenConstraint.mask`; the same array until the next token."""
        if self._mask is None:
            self._mask = self._computed()
        return self._mask

    def advance(self, token_id: int) -> None:
        """As `TokenConstraint.advance`; what goes wrong is said when the next mask is asked for."""
        self._mask = None
        self._matcher.consume_token(token_id)

    def rewind(self, count: int) -> None:
        """As `TokenConstraint.rewind`."""
        self._mask = None
        self._matcher.rollback(count)

    def _computed(self) -> TokenMask:
        began = time.thread_time()
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)[: self._num_words]
        if self._matcher.is_error() or time.thread_time() - began > MOST_SECONDS:
            # what llguidance says may quote the answer, and this error is logged
            message = "The grammar has become too complex here, or no token of this model can go on with it."
            raise ConstraintError(message, (self._request_id,))
        return words | self._stops if self._matcher.is_accepting() else words


class _TokenTable:
    """A tokenizer as llguidance's wrapper asks for it. Text is never forced, so none is ever to be encoded."""

    bos_token_id = None

    def __init__(self, tokens: TokenBytes, end_token_ids: tuple[int, ...]) -> None:
        self.tokens = [tokens.of(token_id) for token_id in range(len(tokens))]
        # an end token that is not marked as special must not be taken for the text it is spelled with either
        self.special_token_ids = sorted({*tokens.special, *end_token_ids})
        self.eos_token_id = end_token_ids[0] if end_token_ids else None

    def __call__(self, text: str | bytes) -> list[int]:
        raise NotImplementedError("text is never encoded for a grammar")


def _reason(matcher: LLMatcher, spec: GrammarSpec) -> str:
    """What is wrong with a grammar, in one line: the fault in a JSON Schema and its place, where that is found, else
    what llguidance says, without the part of the grammar it shows.
    """
    said = [line for line in matcher.get_error().splitlines() if not _SHOWN.match(line)]
    reason = _PLACE.sub("", " ".join(" ".join(said).split())).rstrip(" .:")
    if "coerce_one_of" in reason:  # an option of llguidance's, which would not hold answers to the schema
        reason = "oneOf is supported only where its branches cannot overlap; use anyOf"
    if "NoExtensionBias" in reason:
        reason = "it leads back to itself before it has a first character, so that there is no answer"
    faults = (schema_fault(schema, reason) for schema in json_schemas(spec))
    return next(filter(None, faults), None) or f"{reason[:MOST_OF_A_REASON]}."
