"""Models by hub id: found in the local cache or fetched with `huggingface_hub`."""

from __future__ import annotations

import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from engine.config import setting
from engine.errors import CheckpointError, ConfigError, HubError

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer*")
TERMS = ("LICEN[CS]E*", "NOTICE*", "*.md")
"""Licence and model card: they go along with a model that is made of this one."""

UNWANTED = ("original/*", "consolidated*", "*.onnx.json", "openvino/*", "onnx/*")
"""The same weights once more, in layouts of other programs."""

PARALLEL_HEADERS = 8
"""Headers of weights that are fetched at a time."""

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
    return _local(model, revision) or ModelSource(_fetch(model, revision, cache), model)


@contextmanager
def find_outline(model: str, revision: str = "") -> Iterator[ModelSource]:
    """As `find_model`, but of a model on the hub only what says how large it is, for the duration of a `with` block.

    That is config.json and the headers of the weights. The files of the weights have their full length, but nothing in
    them, which takes no room on the disk. Where the hub cannot be reached the local cache must have the model.

    Raises:
        CheckpointError, ConfigError, HubError: as `find_model`.
    """
    local = _local(model, revision)
    if local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="quire-outline-") as folder:
        try:
            with _explained(model, revision):
                _fetch_outline(model, revision, Path(folder))
            found = ModelSource(Path(folder), model)
        except _UnreachableError:
            cached = _cached(model, revision)
            if cached is None:
                raise
            found = ModelSource(cached, model)
        yield found


def _local(model: str, revision: str) -> ModelSource | None:
    """The directory that is meant; None if a model on the hub is."""
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
    return None


def _fetch_outline(model: str, revision: str, folder: Path) -> None:
    """Fetch config.json, and make a file for each file of weights."""
    hub = HfApi(endpoint=_endpoint())
    info = hub.model_info(model, revision=revision or None)
    names = {each.rfilename for each in info.siblings or ()}
    weights = [name for name in names if fnmatch(name, "*.safetensors") and "/" not in name]
    for kind, there in (("config.json", "config.json" in names), ("*.safetensors", weights)):
        if not there:
            raise HubError(f"{model} has no {kind} on {hub.endpoint}, and Quire reads models of no other form.")
    hub.hf_hub_download(model, "config.json", revision=info.sha, local_dir=folder)

    def outline(name: str) -> None:
        tensors = hub.parse_safetensors_file_metadata(model, name, revision=info.sha).tensors
        described = {
            name: {"dtype": each.dtype, "shape": each.shape, "data_offsets": each.data_offsets}
            for name, each in tensors.items()
        }
        _write_outline(folder / name, described, max((each.data_offsets[1] for each in tensors.values()), default=0))

    with ThreadPoolExecutor(PARALLEL_HEADERS) as pool:
        list(pool.map(outline, weights))


def _write_outline(path: Path, tensors: Mapping[str, Mapping[str, object]], data_bytes: int) -> None:
    header = json.dumps(tensors).encode()
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.truncate(out.tell() + data_bytes)


def _fetch(model: str, revision: str, cache: Path | None) -> Path:
    with _explained(model, revision):
        return _snapshot(model, revision, cache)


def _cached(model: str, revision: str) -> Path | None:
    try:
        return _snapshot(model, revision, None, local_files_only=True)
    except LocalEntryNotFoundError:
        return None


def _snapshot(model: str, revision: str, cache: Path | None, *, local_files_only: bool = False) -> Path:
    return Path(
        snapshot_download(
            model,
            revision=revision or None,
            cache_dir=cache,
            endpoint=_endpoint(),
            local_files_only=local_files_only,
            allow_patterns=[*WANTED, *TERMS],
            ignore_patterns=list(UNWANTED),
        )
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


class _UnreachableError(HubError):
    """The hub does not answer, or is not to be asked."""


@contextmanager
def _explained(model: str, revision: str) -> Iterator[None]:
    """Say in our words what goes wrong between us and the hub."""
    hub = _endpoint() or "the hub"
    try:
        yield
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
        raise _UnreachableError(
            f"{model} is not complete in the local cache and {hub} cannot be reached ({_first_line(problem)}) "
            "Check the connection and HF_HUB_OFFLINE, or name a directory."
        ) from None
    except (SafetensorsParsingError, NotASafetensorsRepoError) as problem:
        raise HubError(f"{model} has weights that cannot be read: {_first_line(problem)}") from None
    except (_HTTP_ERROR, OSError) as problem:
        failure = HubError if isinstance(problem, HfHubHTTPError) else _UnreachableError
        raise failure(f"{model} could not be fetched from {hub}: {_first_line(problem)}") from None


def _first_line(problem: BaseException) -> str:
    cause = problem.__cause__ or problem
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
