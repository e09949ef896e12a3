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
from quire.sampling_flags import sampling_params
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
        prompt = self._text.template.render(messages)
        return self._stream(self._text.tokenizer.encode(prompt, add_special_tokens=False))

    def continuation(self, text: str) -> Generator[AnswerPiece, None, None]:
        """The continuation of a text. Closing the generator ends it early.

        Raises:
            QuireError: it cannot be continued, or the engine failed.
        """
        return self._stream(self._text.tokenizer.encode(text))

    def _stream(self, prompt: Sequence[int]) -> Generator[AnswerPiece, None, None]:
        request = GenerationRequest(uuid.uuid4().hex, tuple(prompt), self._sampling)
        pieces = self._pieces(request)

        async def following() -> AnswerPiece | None:
            return await anext(pieces, None)

        try:
            while (piece := self._runner.run(following())) is not None:
                yield piece
        finally:
            self._runner.run(_close(pieces))

    async def _pieces(self, request: GenerationRequest) -> AsyncGenerator[AnswerPiece, None]:
        assembler = Utf8Assembler()
        deltas = self._engine.generate(request)
        async with aclosing(deltas):
            async for delta in deltas:
                text = assembler.feed(delta.data)
                if delta.finish is None:
                    yield AnswerPiece(text)
                else:
                    yield AnswerPiece(text + assembler.flush(), delta.finish.reason)


@contextmanager
def open_local_model(config: EngineConfig, sampling: dict[str, object]) -> Iterator[LocalModel]:
    """Load a model for the duration of a `with` block.

    Args:
        config: engine settings; `model` is a directory.
        sampling: sampling values that override the model's own defaults.

    Raises:
        QuireError: it cannot be loaded.
    """
    text = load_model_text(Path(config.model))
    params = sampling_params(sampling, text.defaults)
    with asyncio.Runner() as runner:
        engine = runner.run(AsyncEngine.start(config))
        try:
            yield LocalModel(runner, engine, text, params)
        finally:
            runner.run(engine.close())


async def _close(pieces: AsyncGenerator[AnswerPiece, None]) -> None:
    await pieces.aclose()
