"""Every error Quire raises on purpose, as one tree.

A message says what is wrong and what to do about it. The HTTP status of each class is decided in one place,
`server/errors.py`; nothing here knows about HTTP.
"""

from __future__ import annotations


class QuireError(Exception):
    """Root of the tree: an error whose message is written for the person using Quire."""


class ConfigError(QuireError):
    """A setting (file, environment or command line) is unknown, malformed or contradicts another one."""


class CheckpointError(QuireError):
    """A model directory or one of its files is missing, truncated, corrupt or inconsistent.

    The message names the file, the tensor where there is one, and the fact that is wrong.
    """


class UnsupportedModelError(QuireError):
    """The checkpoint is sound but asks for something Quire does not implement; the message names it."""


class TokenizerError(QuireError):
    """The tokenizer files are missing, unreadable or do not match the model."""


class CapacityError(QuireError):
    """The model or its cache does not fit in the memory there is; the message says by how much."""


class NativeLibraryError(QuireError):
    """A compiled library was asked for by name and cannot be loaded or used here."""


class KernelArgumentError(QuireError):
    """An op was handed a tensor it cannot take: wrong dtype, shape, layout, device or values.

    A fault of the caller's code.
    """


class HubError(QuireError):
    """A model could not be fetched from the hub."""


class QuantizationError(QuireError):
    """A quantization job cannot start, or cannot go on."""


class EvaluationError(QuireError):
    """A text or model handed to the evaluation cannot be used."""


class InvalidRequestError(QuireError):
    """A request asks for something impossible or malformed.

    Args:
        message: what is wrong and what would be accepted.
        param: name of the offending field, as the caller spelled it (`messages[0].role`), or None.
        code: short machine-readable code of the OpenAI API (`invalid_value`, `unsupported_parameter`, ...).
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """Prompt (and the answer it must leave room for) exceed the context of the model.

    Args:
        prompt_tokens: tokens in the prompt.
        max_model_len: context length of the model, in tokens.
        param: field that holds the prompt.
        counted: whether the prompt has exactly so many tokens; otherwise it has at least so many.
    """

    def __init__(
        self, prompt_tokens: int, max_model_len: int, *, param: str | None = None, counted: bool = True
    ) -> None:
        number = prompt_tokens if counted else f"at least {prompt_tokens}"
        super().__init__(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt has "
            f"{number} tokens, which leaves no room for an answer. Please shorten the prompt.",
            param=param,
            code="context_length_exceeded",
        )
        self.prompt_tokens = prompt_tokens
        self.max_model_len = max_model_len


class TemplateError(InvalidRequestError):
    """The chat template refuses these messages or fails on them.

    Args:
        message: the template's own message, or what went wrong in it.
        line: 1-based line of the template, where known.
    """

    def __init__(self, message: str, *, line: int | None = None) -> None:
        where = f" (line {line} of the chat template)" if line is not None else ""
        super().__init__(f"{message}{where}", param="messages", code="chat_template_error")
        self.line = line


class ModelNotFoundError(QuireError):
    """The request names a model that is not served here."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        served = ", ".join(f"'{each}'" for each in known) or "none yet"
        asked = f"The model '{name}' does not exist." if name else "The request names no model, and there is none."
        super().__init__(f"{asked} Served here: {served}.")
        self.name = name


class OverloadedError(QuireError):
    """The engine takes no further request just now.

    Args:
        message: why.
        retry_after: seconds after which a new attempt is sensible.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineDeadError(QuireError):
    """The engine process has ended or failed; requests in flight are lost."""


class DeviceError(EngineDeadError):
    """The device is lost: no step can succeed any more in this process."""


class EngineRestartingError(EngineDeadError):
    """The engine process has ended or failed, and a new one is being started.

    Args:
        message: how the old one ended.
        retry_after: seconds after which a new attempt is sensible.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShuttingDownError(EngineDeadError):
    """The server ends: it takes no further requests and gives up those it has."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.")


class ModelUnloadedError(EngineDeadError):
    """The model had to make room, or was unloaded, before the request was answered."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model '{name}' was unloaded before the answer was complete. Please try again: it will be loaded."
        )


class ModelLoadError(QuireError):
    """A model that requests may name cannot be loaded just now. Why is for whoever runs the server to know.

    Args:
        name: of the model.
        retry_after: seconds after which a new attempt is sensible.
    """

    def __init__(self, name: str, *, retry_after: float = 1.0) -> None:
        super().__init__(
            f"The model '{name}' could not be loaded. Please try again later; the server's log has the reason."
        )
        self.retry_after = retry_after


class LoadConflictError(QuireError):
    """Models are loaded one after the other, and something else was asked of them."""


class RequestNotFoundError(QuireError):
    """No request of this name is being answered."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No request '{name[:100]}' of yours is being answered; it may have ended.")


class RequestCancelledError(QuireError):
    """A request was ended before its answer was complete, because somebody asked for that."""

    def __init__(self) -> None:
        super().__init__("The request was cancelled before its answer was complete.")


class RequestFailedError(QuireError):
    """The engine could not finish one request, through no fault of the request; others go on."""


class NoTokenError(RequestFailedError):
    """No token can be chosen for some of a step's requests. Nothing of the step has been kept, so the others lose
    nothing when it is run again without these.

    Args:
        message: why.
        request_ids: the requests to fail.
    """

    def __init__(self, message: str, request_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.request_ids = request_ids


class InvalidLogitsError(NoTokenError):
    """The model gave no usable probabilities for these requests."""

    def __init__(self, request_ids: tuple[str, ...]) -> None:
        super().__init__(
            "The model gave NaN or infinite logits, so no token can be chosen. The checkpoint may be damaged, or its "
            "activations overflow.",
            request_ids,
        )


class ConstraintError(NoTokenError):
    """A request's grammar leaves no token to go on with, or has become too complex to tell."""


class DeadlineExceededError(RequestFailedError):
    """The request was not answered within the time it, or the server's setting, allows."""
