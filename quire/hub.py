"""Models by hub id: found in the local cache or fetched with `huggingface_hub`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.config import setting
from engine.errors import CheckpointError, ConfigError, HubError

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer*")
TERMS = ("LICEN[CS]E*", "NOTICE*", "*.md")
"""Licence and model card: they go along with a model that is made of this one."""

UNWANTED = ("original/*", "consolidated*", "*.onnx.json", "openvino/*", "onnx/*")
"""The same weights once more, in layouts of other programs."""

_HTTP_ERROR: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]
"""Root of the errors of whichever HTTP library this version of `huggingface_hub` uses."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class HubConfig:
    """Which version of a model to fetch."""

    revision: str = setting("", "branch, tag or commit of a model named by its hub id; default is its main branch")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model named on the command line lies.

    Attributes:
        directory: the model directory.
        name: what to call the model: the directory's name, or the hub id.
    """

    directory: Path
    name: str


def find_model(model: str, revision: str = "", cache: Path | None = None) -> ModelSource:
    """The directory of a model, fetched from the hub first if `model` is a hub id and no directory.

    `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to `huggingface_hub`.

    Args:
        model: a directory or a hub id such as `org/name`.
        revision: branch, tag or commit on the hub.
        cache: where fetched models are kept; default is the cache of `huggingface_hub`.

    Raises:
        CheckpointError: there is no such directory, or it may not be looked at, and it cannot be a hub id.
        ConfigError: a revision was given for a directory.
        HubError: the model could not be fetched; the message says why.
    """
    try:
        path = Path(model).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError, ValueError) as problem:  # no access, name too long; no such user; a null character
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise CheckpointError(f"{model} cannot be looked at: {reason}.") from None
    if is_directory:
        if revision:
            raise ConfigError(f"{model} is a directory here, so it has no revision '{revision}'; leave --revision out.")
        return ModelSource(path, path.resolve().name)
    if exists:
        raise CheckpointError(f"{model} is a file; name the directory of the model.")
    if not _HUB_ID.fullmatch(model):
        raise CheckpointError(f"There is no directory {model}, and it is no hub id (those look like org/name) either.")
    return ModelSource(_fetch(model, revision, cache), model)


def _fetch(model: str, revision: str, cache: Path | None) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT") or None
    hub = endpoint or "the hub"
    try:
        return Path(
            snapshot_download(
                model,
                revision=revision or None,
                cache_dir=cache,
                endpoint=endpoint,
                allow_patterns=[*WANTED, *TERMS],
                ignore_patterns=list(UNWANTED),
            )
        )
    except HFValidationError as problem:
        raise HubError(f"'{model}' is no hub id: {problem}") from None
    except GatedRepoError:
        raise HubError(
            f"{model} is gated: accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise HubError(
            f"There is no directory {model} here and no model of that name on {hub}. Is it spelt right? A private "
            "model needs `hf auth login` or HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise HubError(f"{model} has no revision '{revision or 'main'}' on {hub}; see its branches there.") from None
    except (OfflineModeIsEnabled, EntryNotFoundError) as problem:
        raise HubError(
            f"{model} is not complete in the local cache and {hub} cannot be reached ({_first_line(problem)}) "
            "Check the connection and HF_HUB_OFFLINE, or name a directory."
        ) from None
    except (_HTTP_ERROR, OSError) as problem:
        raise HubError(f"{model} could not be fetched from {hub}: {_first_line(problem)}") from None


def _first_line(problem: BaseException) -> str:
    cause = problem.__cause__ or problem
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
