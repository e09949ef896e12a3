"""The engine's vocabulary: what a request is, and what comes back. No torch, nothing else of ours but errors.

Requests are frozen dataclasses that check themselves. What travels once per token (deltas) are named tuples: they
are immutable, typed, and cheap to send between processes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import NamedTuple

from engine.errors import InvalidRequestError
from engine.pooling import PoolingParams
from engine.reasoning import ReasoningSpec

MAX_LOGPROBS = 20
"""Most alternatives reported per token (the limit of the OpenAI API)."""

MAX_CHOICES = 128
"""Most choices (`n`) of one request."""

MAX_TIMEOUT = 1e6
"""Longest time a request may be given, in seconds."""

MAX_GRAMMAR_BYTES = 1 << 17
"""Longest source of a grammar, in bytes of UTF-8."""


class FinishReason(enum.StrEnum):
    """Why a choice ended."""

    STOP = "stop"  # an end token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    ABORT = "abort"  # the client went away


class GrammarKind(enum.StrEnum):
    """In which language a grammar is written."""

    JSON_OBJECT = "json_object"  # any JSON object; there is no source
    JSON_SCHEMA = "json_schema"  # JSON Schema, as JSON
    REGEX = "regex"  # a regular expression, of the whole answer
    CHOICE = "choice"  # a JSON array of strings, one of which is the answer
    LARK = "lark"  # Lark, as llguidance reads it
    GBNF = "gbnf"  # llama.cpp's notation
    STRUCTURAL_TAG = "structural_tag"  # free text with tagged parts, in vLLM's notation
    TREE = "tree"  # parts of these kinds put together, as JSON; see engine/constraints/grammar_tree.py


@dataclass(frozen=True, slots=True)
class GrammarSpec:
    """What every answer to a request must look like. Hashable: equal grammars are compiled once.

    Attributes:
        kind: the language of `source`.
        source: the grammar itself.

    Raises:
        InvalidRequestError: `source` is too long.
    """

    kind: GrammarKind
    source: str = ""

    def __post_init__(self) -> None:
        size = len(self.source.encode("utf-8", "replace"))
        _require(
            size <= MAX_GRAMMAR_BYTES,
            f"The grammar has {size} bytes; at most {MAX_GRAMMAR_BYTES} are accepted.",
            "grammar",
        )


def _strings(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _require(condition: bool, message: str, param: str) -> None:
    if not condition:
        raise InvalidRequestError(message, param=param)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of an answer are chosen, and when it ends.

    The names are those of vLLM's class of the same name, so that offline code moves over unchanged.

    Attributes:
        n: independent choices to generate from the one prompt.
        max_tokens: most tokens of each choice; None means up to the end of the context, 0 only reads the prompt.
        min_tokens: end and stop tokens are not sampled, and stop strings not looked for, before this many tokens.
        temperature: 0 means greedy.
        top_k: keep the k likeliest tokens; 0 or -1 keeps all.
        top_p: keep the smallest set of likeliest tokens whose probability reaches this; 1 keeps all, 0 one.
        min_p: drop tokens less likely than this fraction of the likeliest one; 0 keeps all.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen in prompt or answer.
        presence_penalty: subtracted once from logits of tokens seen in the answer.
        frequency_penalty: subtracted per occurrence from logits of tokens seen in the answer.
        logit_bias: added to the logits of these token ids, -100 to 100.
        seed: any integer, taken modulo 2^64; makes the answer reproducible. None draws one for each request. Randomness
            depends on (seed, choice, position) only.
        stop: strings that end the answer; the match itself is not returned unless `include_stop_str_in_output`.
        stop_token_ids: token ids that end the answer, besides the model's own.
        ignore_eos: do not end at the model's own end tokens.
        include_stop_str_in_output: return the matched stop string.
        skip_special_tokens: leave special tokens out of the text.
        shown_special_tokens: ids of those that stay in the text all the same: what reads the answer looks for them.
        logprobs: None for none; k for the chosen token's log-probability and the k likeliest alternatives.
        prompt_logprobs: the same for each token of the prompt after the first, given those before it. Such a prompt is
            computed whole, whatever of it is in the prefix cache.
        grammar: what the answer must look like. It ends when it is complete, even below `min_tokens`; stop strings,
            stop tokens and `max_tokens` cut it off as they do any answer.
        reasoning: what may stand before the answer proper, where stop strings and a grammar do not reach.

    Raises:
        InvalidRequestError: a value is out of range; `param` names it.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: str | Sequence[str] | None = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    shown_special_tokens: Sequence[int] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: GrammarSpec | None = None
    reasoning: ReasoningSpec | None = None

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "stop", _strings(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        object.__setattr__(self, "shown_special_tokens", tuple(self.shown_special_tokens))
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        self._check_lengths()
        self._check_ranges()

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` in its normal form."""
        return _strings(self.stop)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    @property
    def has_penalties(self) -> bool:
        """Whether logits depend on the tokens seen so far."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    def _check_types(self) -> None:
        for name in ("n", "min_tokens", "top_k", "max_tokens", "seed", "logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            optional = name in ("max_tokens", "seed", "logprobs", "prompt_logprobs")
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            _require(whole or (optional and value is None), f"{name} must be a whole number, not {value!r}.", name)
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            _require(is_number, f"{name} must be a number, not {value!r}.", name)

    def _check_lengths(self) -> None:
        _require(1 <= self.n <= MAX_CHOICES, f"n must be between 1 and {MAX_CHOICES}, not {self.n}.", "n")
        _require(
            self.max_tokens is None or self.max_tokens >= 0,
            f"max_tokens must not be negative, not {self.max_tokens}.",
            "max_tokens",
        )
        _require(self.min_tokens >= 0, f"min_tokens must not be negative, not {self.min_tokens}.", "min_tokens")
        _require(
            self.max_tokens is None or self.min_tokens <= self.max_tokens,
            f"min_tokens ({self.min_tokens}) must not exceed max_tokens ({self.max_tokens}).",
            "min_tokens",
        )
        _require(all(self.stop_strings), "A stop string must not be empty.", "stop")
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            _require(
                count is None or 0 <= count <= MAX_LOGPROBS,
                f"{name} must be between 0 and {MAX_LOGPROBS}, not {count}.",
                name,
            )
        _require(
            self.grammar is None or not self.ignore_eos,
            "ignore_eos does not go with a grammar, which says itself where an answer may end.",
            "ignore_eos",
        )

    def _check_ranges(self) -> None:
        bounds: tuple[tuple[str, float, float, float, str], ...] = (
            ("temperature", self.temperature, 0.0, 100.0, "between 0 and 100"),
            ("top_p", self.top_p, 0.0, 1.0, "between 0 and 1"),
            ("min_p", self.min_p, 0.0, 1.0, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty, 1e-3, 100.0, "between 0.001 and 100"),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0, "between -2 and 2"),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "between -2 and 2"),
        )
        for name, value, low, high, words in bounds:
            # written so that NaN, which compares false with everything, is refused too
            _require(low <= value <= high, f"{name} must be {words}, not {value}.", name)
        _require(self.top_k >= -1, f"top_k must be -1, 0 (both: off) or positive, not {self.top_k}.", "top_k")
        for token, bias in self.logit_bias.items():
            _require(
                -100.0 <= bias <= 100.0, f"logit_bias of token {token} must be in -100..100, not {bias}.", "logit_bias"
            )
            _require(token >= 0, f"logit_bias names token {token}; token ids are not negative.", "logit_bias")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to be continued, or to be made into a vector.

    Attributes:
        request_id: unique among the requests in flight.
        prompt_token_ids: at least one token.
        sampling: how to continue; without a `seed` the engine draws one for this request.
        timeout: seconds it may take, waiting and running, before it fails; None leaves it to the engine's settings.
        priority: the lower, the sooner its turn, as in vLLM; requests of equal priority are served in order of arrival.
        pooling: what vector to make of the prompt; None for none. There is no answer then: `max_tokens` is 0.

    Raises:
        InvalidRequestError: `timeout` is out of range, or a vector is wanted and something else, too.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    timeout: float | None = None
    priority: int = 0
    pooling: PoolingParams | None = None

    def __post_init__(self) -> None:
        sampling = self.sampling
        _require(
            self.pooling is None
            or (sampling.max_tokens, sampling.n, sampling.prompt_logprobs, sampling.grammar) == (0, 1, None, None),
            "A request for a vector has max_tokens 0, n 1, no prompt_logprobs and no grammar.",
            "pooling",
        )
        _require(
            self.timeout is None or 0.0 < self.timeout <= MAX_TIMEOUT,
            f"timeout must be above 0 and at most {MAX_TIMEOUT:g} seconds, not {self.timeout}.",
            "timeout",
        )


class TopLogprob(NamedTuple):
    """One of the likeliest tokens at a position."""

    token_id: int
    data: bytes  # the token's own bytes
    logprob: float  # natural log; never below -9999.0


class TokenLogprob(NamedTuple):
    """Log-probability of an emitted token, with the likeliest alternatives, best first.

    `data` is what of the token was emitted, so that joining them gives the text exactly; it is shorter than the
    token's own bytes only where a stop string cut through the token.
    """

    token_id: int
    data: bytes
    logprob: float
    top: tuple[TopLogprob, ...]


class PromptLogprob(NamedTuple):
    """Log-probability of a token of the prompt, given the tokens before it; None for the first, which has none."""

    token_id: int
    data: bytes  # the token's own bytes
    logprob: float | None
    top: tuple[TopLogprob, ...]


class Finish(NamedTuple):
    """How a choice ended, and the stop string or token id that matched, if one did."""

    reason: FinishReason
    stop: str | int | None = None


class Timings(NamedTuple):
    """Where the time of one choice went inside the engine, in seconds, and what it suffered there."""

    queue: float  # from when its request was sent to the engine to the first step it took part in
    prefill: float  # from there to its first token
    decode: float  # from there on
    preemptions: int  # times its cache blocks were taken, so that it had to be computed again


class OutputDelta(NamedTuple):
    """What one step adds to one choice. Everything in it is final: it is never taken back.

    Text that a stop string may still remove is held back by the engine until it is certain. End and stop tokens are
    not emitted. The bytes of successive deltas join to the text; a delta may end inside a UTF-8 character.
    """

    request_id: str
    choice: int
    token_ids: tuple[int, ...]
    data: bytes
    logprobs: tuple[TokenLogprob, ...] | None = None  # one per token id, if asked for
    cached_tokens: int = 0  # prompt tokens that were not computed again; the same in every delta
    finish: Finish | None = None
    timings: Timings | None = None  # on the first and the last delta of a choice, as of then
    reasoning_tokens: int = 0  # of all emitted so far, those up to the end of the reasoning; with `reasoning` only
    prompt_logprobs: tuple[PromptLogprob, ...] | None = None  # of the whole prompt; on the request's first delta
    end_logprob: TokenLogprob | None = None  # of the token that ended the choice and is no part of it; with `finish`
    embedding: bytes | None = None  # the prompt's vector, float32, little-endian; with `finish` of a request for one


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded and how it runs: shown at start-up and by the models endpoint.

    Attributes:
        name: last part of the model's path.
        path: directory it was loaded from.
        architecture: as in config.json, e.g. `LlamaForCausalLM`.
        weight_format: e.g. `exl2`, `float16`, or `exl2 + float16` for a mixed checkpoint.
        bits_per_weight: stored bits per weight of the decoder layers' matrices.
        head_bits_per_weight: stored bits per weight of the output head.
        parameters: weights in total; embedding and head count once where config.json ties them.
        weight_bytes: memory held by weights.
        device: e.g. `cpu`.
        kernels: which kernels are in use, e.g. `cpu-avx512`, `torch`.
        threads: CPU threads the kernels use.
        vocab_size: rows of logits; may exceed what the tokenizer knows.
        hidden_size: features of a hidden state, and so of a prompt's vector.
        max_model_len: longest prompt plus answer, in tokens.
        block_size: tokens per cache block.
        kv_cache_tokens: tokens the cache holds.
        kv_cache_bytes: memory held by it.
        kv_cache_dtype: e.g. `float16`.
        eos_token_ids: tokens that end an answer.
        load_seconds: how long loading took; with the start of its process, where it has one.
        max_queued_requests: most prompts that may wait for their first token; 0 means any number.
        max_queued_tokens: most tokens of the prompts that wait together; 0 means any number.
        max_biased_tokens: most tokens that the `logit_bias` of a request may name; 0 means any number.
        max_stop_tokens: most `stop_token_ids` of a request; 0 means any number.
    """

    name: str
    path: str
    architecture: str
    weight_format: str
    bits_per_weight: float
    head_bits_per_weight: float
    parameters: int
    weight_bytes: int
    device: str
    kernels: str
    threads: int
    vocab_size: int
    hidden_size: int
    max_model_len: int
    block_size: int
    kv_cache_tokens: int
    kv_cache_bytes: int
    kv_cache_dtype: str
    eos_token_ids: tuple[int, ...]
    load_seconds: float
    max_queued_requests: int = 0
    max_queued_tokens: int = 0
    max_biased_tokens: int = 0
    max_stop_tokens: int = 0
