"""The last checks before an answer begins: every refusal a request can get comes from here or earlier."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from engine.admission import check_request, with_seed
from engine.errors import ContextLengthError, InvalidRequestError, OverloadedError
from engine.pooling import PoolingParams
from engine.types import GenerationRequest, SamplingParams
from server.chat.call_ids import CallIds
from server.chat.shown_prompt import PromptView
from server.generation import Generation
from server.grammar_checks import GrammarChecks
from server.models.served import ServedModel
from server.parsing.base import StreamParser
from server.schemas.structured import StructuredFields
from server.structured import naming_field, wanted_grammar
from server.tool_grammar import Check

MAX_PROMPT_LOGPROBS = 1 << 20
"""Most log-probabilities that are told of the prompts of one HTTP request."""

MAX_CHOICES_PER_REQUEST = 4096
"""Most prompts times choices of one HTTP request."""


def admit(
    model: ServedModel,
    kind: str,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    *,
    prompt_param: str,
    timeout: float | None = None,
    priority: int | None = None,
    make_parser: Callable[[], StreamParser] | None = None,
    call_ids: CallIds | None = None,
    views: Sequence[PromptView] | None = None,
    pooling: PoolingParams | None = None,
) -> Generation:
    """Make the engine requests of one HTTP request, all or none of them admissible.

    Args:
        model: where they will run.
        kind: prefix of the answer's id, `chatcmpl`, `cmpl` or `embd`.
        prompts: token ids of each prompt.
        sampling: for each prompt; without a seed one is drawn for each.
        prompt_param: field that holds the prompt, for messages.
        timeout: seconds each prompt has to be answered; None means what the model is set to.
        priority: of each prompt; None means 0.
        make_parser: as in `Generation`.
        call_ids: as in `Generation`.
        views: what the answer shows of each prompt; None for nothing.
        pooling: what vector to make of each prompt; None for none.

    Raises:
        EngineDeadError: the engine takes no requests, or none until it has been restarted.
        ModelLoadError: the model could not be loaded a short while ago.
        InvalidRequestError: a prompt or parameter can never be served.
        OverloadedError: too much waits already.
    """
    model.check_available()
    timeout = timeout or model.known.config.request_timeout or None
    if len(prompts) * sampling.n > MAX_CHOICES_PER_REQUEST:
        raise InvalidRequestError(
            f"{len(prompts)} prompts with n={sampling.n} make {len(prompts) * sampling.n} choices; one request may "
            f"have at most {MAX_CHOICES_PER_REQUEST}.",
            param=prompt_param,
        )
    _check_told(sum(map(len, prompts)), sampling, views)
    answer_id = f"{kind}-{uuid.uuid4().hex}"
    names = [answer_id] if len(prompts) == 1 else [f"{answer_id}-{index}" for index in range(len(prompts))]
    requests = [
        with_seed(GenerationRequest(name, tuple(prompt), sampling, timeout, priority or 0, pooling))
        for name, prompt in zip(names, prompts, strict=True)
    ]
    for request in requests:
        _check(request, model, prompt_param)
    try:
        places = model.queue.enter(prompts)
    except OverloadedError:
        model.metrics.unfinished("queue_full")
        raise
    metrics = model.metrics.request(sum(len(prompt) for prompt in prompts), sampling)
    return Generation(answer_id, model, requests, places, metrics, make_parser, call_ids, views)


def _check_told(prompt_tokens: int, sampling: SamplingParams, views: Sequence[PromptView] | None) -> None:
    """Refuse to tell more of prompts than there should be in memory at once, naming the field that asks for it.

    Raises:
        InvalidRequestError: it is too much.
    """
    count = sampling.prompt_logprobs
    if count is not None and prompt_tokens * (count + 1) > MAX_PROMPT_LOGPROBS:
        echoed = views is not None and views[0].placed == count
        raise InvalidRequestError(
            f"{count} alternatives for each of {prompt_tokens} prompt tokens are too much to tell; the tokens of all "
            f"prompts and their alternatives may be {MAX_PROMPT_LOGPROBS} together. Ask for fewer, or send prompts one "
            "by one.",
            param="logprobs" if echoed else "prompt_logprobs",
        )


async def check_grammar(
    body: StructuredFields, sampling: SamplingParams, model: ServedModel, checks: GrammarChecks
) -> None:
    """Refuse a request whose grammar the model cannot follow.

    Args:
        body: the request.
        sampling: what was made of it.
        model: where it will run.
        checks: find out.

    Raises:
        InvalidRequestError: naming the field that asks for it.
        EngineDeadError: the system has no room for the process that finds out.
    """
    wanted = wanted_grammar(body)
    if sampling.grammar is None or wanted is None:
        return
    try:
        await grammar_check(model, checks)(sampling.grammar)
    except InvalidRequestError as error:
        raise naming_field(error, wanted.param) from None


def grammar_check(model: ServedModel, checks: GrammarChecks) -> Check:
    """What refuses grammars that this model cannot follow."""
    return lambda grammar: checks.check(grammar, model.name, model.text, model.known.config.grammar_timeout)


def _check(request: GenerationRequest, model: ServedModel, prompt_param: str) -> None:
    """`check_request`, with the prompt named as the client knows it."""
    try:
        check_request(request, model.limits)
    except ContextLengthError as error:
        raise ContextLengthError(error.prompt_tokens, error.max_model_len, param=prompt_param) from None
    except InvalidRequestError as error:
        if error.param != "prompt":
            raise
        raise InvalidRequestError(error.message, param=prompt_param, code=error.code) from None
