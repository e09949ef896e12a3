"""One choice of one request inside the core: its sequence, and how sampled tokens become output."""

from __future__ import annotations

from collections.abc import Container

from engine.constraints.reasoning_text import AnswerStops
from engine.constraints.stop import StopMatcher, StopStrings
from engine.emission import EmittedToken, Emitter
from engine.pooler import Pooler
from engine.scheduling.batch import PromptReading, SampledToken
from engine.scheduling.sequence import Sequence
from engine.scheduling.stopping import finish_at_token
from engine.text.token_bytes import TokenBytes
from engine.types import Finish, FinishReason, OutputDelta, PromptLogprob, TokenLogprob, TopLogprob


class Choice:
    """Turns the tokens sampled for one sequence into deltas.

    Args:
        sequence: what is scheduled.
        strings: stop strings of the request.
        tokens: bytes of every token.
        end_token_ids: the model's own end tokens.
    """

    def __init__(
        self,
        sequence: Sequence,
        *,
        strings: StopStrings | None,
        tokens: TokenBytes,
        end_token_ids: Container[int],
    ) -> None:
        self.sequence = sequence
        self._tokens = tokens
        self._end_token_ids = end_token_ids
        self._told = False  # whether a delta has gone out
        self._prompt: list[PromptLogprob] = []  # what has been read of it, its first token left out
        pooling = sequence.request.pooling
        self._pooler = None if pooling is None else Pooler(pooling)
        self._end_logprob: TokenLogprob | None = None  # of the token that ended it
        sampling = sequence.sampling
        hides = sampling.skip_special_tokens
        self._hidden = tokens.special.difference(sampling.shown_special_tokens) if hides else frozenset()
        stops = (
            StopMatcher(strings, min_tokens=sampling.min_tokens, include=sampling.include_stop_str_in_output)
            if strings is not None
            else None
        )
        self._reasoning = None if sampling.reasoning is None else AnswerStops(sampling.reasoning, stops)
        self._emitter = Emitter(self._reasoning or stops)
        self._num_emitted = 0

    def read(self, reading: PromptReading) -> None:
        """Take in what a step read of the prompt."""
        if self._pooler is not None and reading.states is not None:
            self._pooler.add(reading.states)
        for token in reading.tokens:
            self._prompt.append(
                PromptLogprob(token.token_id, self._tokens.of(token.token_id), token.logprob, self._top(token))
            )
        self.sequence.num_read = reading.reads.stop

    def end_with_prompt(self, now: float) -> OutputDelta:
        """The only delta of a choice that samples nothing; its prompt was computed by a step that ended `now`."""
        if self._pooler is None:
            return self._delta([], Finish(FinishReason.LENGTH), now)
        return self._delta([], Finish(FinishReason.STOP), now)._replace(embedding=self._pooler.vector())

    def append(self, sampled: SampledToken, now: float) -> OutputDelta | None:
        """Take in the token sampled by a step that ended `now`; what has become certain by it, None if nothing has."""
        self.sequence.append(sampled.token_id)
        finish = self._push(sampled)
        emitted = self._emitter.take(final=finish is not None)
        if not emitted and finish is None and (self._told or not self._reads_prompt):
            return None
        return self._delta(emitted, finish, now)

    def _push(self, sampled: SampledToken) -> Finish | None:
        sequence = self.sequence
        finish = finish_at_token(sampled.token_id, sequence.sampling, self._end_token_ids)
        if finish is not None:
            self._end_logprob = self._logprob(sampled, b"")
            return finish
        if sequence.constraint is not None:
            sequence.constraint.advance(sampled.token_id)
        data = self._text_of(sampled.token_id)
        stop = self._emitter.push(sampled.token_id, data, self._logprob(sampled, data))
        if stop is not None:
            return Finish(FinishReason.STOP, stop)
        if sequence.constraint is not None and sequence.constraint.complete:
            return Finish(FinishReason.STOP)
        return Finish(FinishReason.LENGTH) if sequence.num_generated == sequence.max_tokens else None

    def _text_of(self, token_id: int) -> bytes:
        return b"" if token_id in self._hidden else self._tokens.of(token_id)

    def _logprob(self, sampled: SampledToken, data: bytes) -> TokenLogprob | None:
        if sampled.logprob is None:
            return None
        return TokenLogprob(sampled.token_id, data, sampled.logprob, self._top(sampled))

    def _top(self, token: SampledToken) -> tuple[TopLogprob, ...]:
        return tuple(TopLogprob(token_id, self._tokens.of(token_id), logprob) for token_id, logprob in token.top)

    @property
    def _reads_prompt(self) -> bool:
        """Whether its first delta tells of the prompt."""
        return self.sequence.choice == 0 and self.sequence.sampling.prompt_logprobs is not None

    def _prompt_logprobs(self) -> tuple[PromptLogprob, ...]:
        first = self.sequence.token_ids[0]
        return (PromptLogprob(first, self._tokens.of(first), None, ()), *self._prompt)

    def _delta(self, emitted: list[EmittedToken], finish: Finish | None, now: float) -> OutputDelta:
        sequence = self.sequence
        wants_logprobs = sequence.sampling.logprobs is not None
        self._num_emitted += len(emitted)
        first, self._told = not self._told, True
        return OutputDelta(
            sequence.request.request_id,
            sequence.choice,
            tuple(token.token_id for token in emitted),
            b"".join(token.data for token in emitted),
            tuple(token.logprob for token in emitted if token.logprob is not None) if wants_logprobs else None,
            sequence.cached_tokens,
            finish,
            sequence.timeline.timings(now) if first or finish is not None else None,
            0 if self._reasoning is None else min(self._reasoning.tokens, self._num_emitted),
            self._prompt_logprobs() if first and self._reads_prompt else None,
            self._end_logprob,
        )
