"""The offline class: prompts in, answers out, with the engine in this process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from engine.admission import check_request, with_seed
from engine.build import build_engine
from engine.config import EngineConfig, KVCacheDtype
from engine.core import EngineCore
from engine.errors import ConfigError, InvalidRequestError
from engine.llm_outputs import EmbeddingRequestOutput, RequestOutput, fold_choice, fold_embedding, fold_prompt
from engine.pooling import PoolingParams
from engine.revival import revive
from engine.text.chat_template import load_chat_template
from engine.text.defaults import generation_defaults
from engine.text.tokenizer import load_tokenizer
from engine.types import GenerationRequest, OutputDelta, SamplingParams

Message = Mapping[str, Any]

_DTYPE_NAMES = {"half": "float16", "float": "float32"}


class LLM:
    """A loaded model that answers lists of prompts, many at a time. The interface is that of vLLM's class.

    Args:
        model: model directory.
        quantization: None takes the checkpoint as it is; `exl2` insists that it is one.
        dtype: element type of what is kept of each token, the KV cache: `auto`, `float16` (`half`), `bfloat16` or
            `float32` (`float`). Weights stay in their own format, and arithmetic is at least as precise.
        max_model_len: longest prompt plus answer; None means what the model supports.
        gpu_memory_utilization: share of the free memory the KV cache may take; None for the default of
            `EngineConfig.memory_fraction`.

    Raises:
        QuireError: as `engine.build.build_engine`; ConfigError also where `quantization` is not what the checkpoint is.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        quantization: str | None = None,
        dtype: str = "auto",
        max_model_len: int | None = None,
        gpu_memory_utilization: float | None = None,
    ) -> None:
        if quantization not in (None, "exl2"):
            raise ConfigError(f"quantization must be None or 'exl2', not '{quantization}'.")
        config = EngineConfig(
            model=str(model),
            kv_cache_dtype=_kv_cache_dtype(dtype),
            max_model_len=max_model_len or 0,
            memory_fraction=EngineConfig().memory_fraction
            if gpu_memory_utilization is None
            else gpu_memory_utilization,
        )
        self._core, self._model = build_engine(config)
        if quantization == "exl2" and "exl2" not in self._model.weight_format.split(" + "):
            raise ConfigError(
                f"quantization is 'exl2', but the weights in {self._model.path} are {self._model.weight_format}. "
                "Leave it out, or quantize the model first."
            )
        directory = Path(self._model.path)
        self._tokenizer = load_tokenizer(directory)
        self._chat_template = load_chat_template(directory)
        self._defaults = generation_defaults(directory, self._tokenizer)
        self._numbers = itertools.count()

    def get_default_sampling_params(self) -> SamplingParams:
        """What the model's own files say about sampling, and `SamplingParams`' defaults for the rest."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
        given = {name: getattr(self._defaults, name) for name in names}
        return SamplingParams(**{name: value for name, value in given.items() if value is not None})

    def generate(
        self,
        prompts: str | Sequence[str] | None = None,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        prompt_token_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> list[RequestOutput]:
        """Continue prompts.

        Args:
            prompts: one text or several.
            sampling_params: for all prompts, or one for each; None means `get_default_sampling_params()`.
            prompt_token_ids: in place of `prompts`, the token ids of one prompt or of several.

        Returns:
            One output per prompt, in their order.

        Raises:
            InvalidRequestError: prompts or parameters cannot be used; nothing was generated.
            RequestFailedError: the engine failed on one of them.
        """
        return self._answer(*self._encoded(prompts, prompt_token_ids), sampling_params)

    def embed(
        self,
        prompts: str | Sequence[str] | None = None,
        pooling_params: PoolingParams | None = None,
        prompt_token_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> list[EmbeddingRequestOutput]:
        """Turn prompts into vectors of length 1, made of the model's hidden states.

        Args:
            prompts: one text or several.
            pooling_params: how; None means the mean of all states.
            prompt_token_ids: in place of `prompts`, the token ids of one prompt or of several.

        Returns:
            One output per prompt, in their order.

        Raises:
            InvalidRequestError: prompts or parameters cannot be used; nothing was computed.
            RequestFailedError: the engine failed on one of them.
        """
        _, token_ids = self._encoded(prompts, prompt_token_ids)
        sampling, pooling = SamplingParams(max_tokens=0, seed=0), pooling_params or PoolingParams()
        requests = [
            GenerationRequest(str(next(self._numbers)), tuple(ids), sampling, pooling=pooling) for ids in token_ids
        ]
        deltas = self._run(requests)
        return [fold_embedding(request.prompt_token_ids, deltas[request.request_id]) for request in requests]

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, object] | None = None,
    ) -> list[RequestOutput]:
        """Answer conversations.

        Args:
            messages: one conversation or several, each a list of `{"role": …, "content": …}`.
            sampling_params: as in `generate`.
            add_generation_prompt: end the prompt with what opens an answer.
            tools: definitions for the template, in the form of the chat API.
            chat_template_kwargs: further variables of the template.

        Raises:
            InvalidRequestError: as `generate`; also if the model has no chat template or the template refuses.
        """
        if self._chat_template is None:
            raise InvalidRequestError(
                f"The model in {self._model.path} has no chat template; use generate() with a prompt of your own.",
                param="messages",
            )
        one = not messages or isinstance(messages[0], Mapping)
        conversations = cast("Sequence[Sequence[Message]]", [messages] if one else messages)
        texts = [
            self._chat_template.render(
                conversation, tools=tools, add_generation_prompt=add_generation_prompt, variables=chat_template_kwargs
            )
            for conversation in conversations
        ]
        # the template writes the special tokens itself
        ids = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return self._answer(texts, ids, sampling_params)

    def _answer(
        self,
        texts: Sequence[str | None],
        token_ids: Sequence[Sequence[int]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
    ) -> list[RequestOutput]:
        requests = [
            with_seed(GenerationRequest(str(next(self._numbers)), tuple(ids), sampling))
            for ids, sampling in zip(token_ids, self._one_each(sampling_params, len(token_ids)), strict=True)
        ]
        deltas = self._run(requests)
        return [
            _output(text, request, deltas[request.request_id]) for text, request in zip(texts, requests, strict=True)
        ]

    def _encoded(
        self,
        prompts: str | Sequence[str] | None,
        prompt_token_ids: Sequence[int] | Sequence[Sequence[int]] | None,
    ) -> tuple[Sequence[str | None], Sequence[Sequence[int]]]:
        """Text, where there is one, and token ids of each prompt."""
        if (prompts is None) == (prompt_token_ids is None):
            raise InvalidRequestError("Give either prompts or prompt_token_ids.", param="prompts")
        if prompts is None:
            ids = _rows(cast("Sequence[int] | Sequence[Sequence[int]]", prompt_token_ids))
            return [None] * len(ids), ids
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        for text in texts:
            if not isinstance(text, str):
                raise InvalidRequestError(
                    f"A prompt must be a text, not {text!r:.60}; give token ids as prompt_token_ids.", param="prompts"
                )
        return texts, [self._tokenizer.encode(text) for text in texts]

    def _run(self, requests: Sequence[GenerationRequest]) -> dict[str, list[OutputDelta]]:
        """The deltas of each, if none of them has to be refused."""
        for request in requests:
            check_request(request, self._model)
        return run_to_end(self._core, requests)

    def _one_each(
        self, sampling_params: SamplingParams | Sequence[SamplingParams] | None, count: int
    ) -> Sequence[SamplingParams]:
        if sampling_params is None:
            sampling_params = self.get_default_sampling_params()
        if isinstance(sampling_params, SamplingParams):
            return [sampling_params] * count
        if len(sampling_params) != count:
            raise InvalidRequestError(
                f"There are {count} prompts but {len(sampling_params)} sampling_params; give one for all or one each.",
                param="sampling_params",
            )
        return sampling_params


def run_to_end(core: EngineCore, requests: Sequence[GenerationRequest]) -> dict[str, list[OutputDelta]]:
    """Step until these requests are answered: the deltas of each.

    Raises:
        QuireError: one of them cannot be queued, or failed; the others are dropped.
    """
    deltas: dict[str, list[OutputDelta]] = {request.request_id: [] for request in requests}
    try:
        for request in requests:
            core.add(request)
        while core.has_work:
            output = core.step()
            for failure in output.failures:
                raise revive(failure.kind, failure.message)
            for delta in output.deltas:
                deltas[delta.request_id].append(delta)
    finally:
        for request in requests:
            core.abort(request.request_id)
    return deltas


def _output(text: str | None, request: GenerationRequest, deltas: Sequence[OutputDelta]) -> RequestOutput:
    choices = [[delta for delta in deltas if delta.choice == index] for index in range(request.sampling.n)]
    return RequestOutput(
        request_id=request.request_id,
        prompt=text,
        prompt_token_ids=list(request.prompt_token_ids),
        outputs=[fold_choice(index, choice) for index, choice in enumerate(choices)],
        prompt_logprobs=fold_prompt(deltas[0].prompt_logprobs),
        num_cached_tokens=deltas[0].cached_tokens,
    )


def _rows(token_ids: Sequence[int] | Sequence[Sequence[int]]) -> list[Sequence[int]]:
    if token_ids and isinstance(token_ids[0], int):
        return [cast("Sequence[int]", token_ids)]
    return list(cast("Sequence[Sequence[int]]", token_ids))


def _kv_cache_dtype(dtype: str) -> KVCacheDtype:
    name = _DTYPE_NAMES.get(dtype, dtype)
    if name not in get_args(KVCacheDtype):
        known = ", ".join((*get_args(KVCacheDtype), *_DTYPE_NAMES))
        raise ConfigError(f"dtype must be one of {known}, not '{dtype}'.")
    return cast("KVCacheDtype", name)
