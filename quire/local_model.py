"""A model in an engine process of its own, used from plain synchronous code."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path

from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from engine.errors import InvalidRequestError
from engine.text.chat_template import Message
from engine.text.detokenizer import Utf8Assembler
from engine.types import GenerationRequest, SamplingParams
from quire.answers import AnswerPiece
from quire.local_chat import answer_piece, local_chat
from quire.sampling_flags import sampling_params
from server.parsing.base import PlainParser, StreamParser
from server.text import ModelText, load_model_text


class LocalModel:
    """A loaded model. Make one with `open_local_model`.

    Args:
        runner: event loop the engine lives in; it runs only while an answer is awaited.
        engine: the engine.
        text: tokenizer and chat template.
        sampling: how answers are sampled.
    """

    def __init__(self, runner: asyncio.Runner, engine: AsyncEngine, text: ModelText, sampling: SamplingParams) -> None:
        self._runner = runner
        self._engine = engine
        self._text = text
        self._sampling = sampling

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._engine.model.name

    def answer(self, messages: Sequence[Message]) -> Generator[AnswerPiece, None, None]:
        """The answer to a conversation, by the model's chat template; see `Talker.answer`."""
        if self._text.template is None:
            raise InvalidRequestError("This model has no chat template; use quire generate instead.")
        asking = local_chat(messages, self._text, self._sampling, self._engine.model.max_model_len)
        return self._stream(*self._runner.run(asking))

    def continuation(self, text: str) -> Generator[AnswerPiece, None, None]:
        """The continuation of a text. Closing the generator ends it early.

        Raises:
            QuireError: it cannot be continued, or the engine failed.
        """
        return self._stream(self._text.tokenizer.encode(text), self._sampling, PlainParser())

    def _stream(
        self, prompt: Sequence[int], sampling: SamplingParams, parser: StreamParser
    ) -> Generator[AnswerPiece, None, None]:
        request = GenerationRequest(uuid.uuid4().hex, tuple(prompt), sampling)
        pieces = self._pieces(request, parser)

        async def following() -> AnswerPiece | None:
            return await anext(pieces, None)

        try:
            while (piece := self._runner.run(following())) is not None:
                yield piece
        finally:
            self._runner.run(_close(pieces))

    async def _pieces(self, request: GenerationRequest, parser: StreamParser) -> AsyncGenerator[AnswerPiece, None]:
        assembler = Utf8Assembler()
        deltas = self._engine.generate(request)
        async with aclosing(deltas):
            async for delta in deltas:
                found = parser.feed(assembler.feed(delta.data))
                if delta.finish is None:
                    yield answer_piece(found)
                else:
                    rest = [*parser.feed(assembler.flush()), *parser.finish()]
                    yield answer_piece([*found, *rest], delta.finish.reason)


@contextmanager
def open_local_model(config: EngineConfig, sampling: dict[str, object]) -> Iterator[LocalModel]:
    """Load a model for the duration of a `with` block.

    Args:
        config: engine settings; `model` is a directory.
        sampling: sampling values that override the model's own defaults.

    Raises:
        QuireError: it cannot be loaded.
    """
    text = load_model_text(Path(config.model), config.tool_format, config.reasoning_format)
    params = sampling_params(sampling, text.defaults)
    with asyncio.Runner() as runner:
        engine = runner.run(AsyncEngine.start(config))
        try:
            yield LocalModel(runner, engine, text, params)
        finally:
            runner.run(engine.close())


async def _close(pieces: AsyncGenerator[AnswerPiece, None]) -> None:
    await pieces.aclose()
