"""Probe: a model directory. Would it load, and what would it take?"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import QuireError
from engine.execution.memory import plan_model
from engine.free_memory import readable_size
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig, load_config
from engine.model.formats.exl2 import Exl2Format, load_exl2
from engine.model.tensor_layout import check_tensors, tensor_layout
from engine.ops.select import select_backend
from engine.text.chat_template import load_chat_template
from engine.text.template_capabilities import probe
from engine.text.token_bytes import token_bytes
from engine.text.tokenizer import load_tokenizer
from quire.configuration import TABLES
from quire.doctor.finding import Finding, ok, problem, warning
from quire.doctor.machine import unreadable
from quire.settings import from_environment, resolve

DOWNLOAD_AGAIN = "If it was downloaded, download it again; otherwise make it again."


def check(arguments: Sequence[str]) -> Iterator[Finding]:
    """Look at a model directory, the one argument."""
    directory = Path(arguments[0]).expanduser()
    if not directory.is_dir():
        yield problem("model", f"there is no directory {directory}", "Name a directory that holds config.json.")
        return
    sealed = unreadable(directory)
    if sealed:
        yield problem("model", f"user {os.geteuid()} may not read {sealed[0]}", f"chmod -R a+rX {directory}")
        return
    yield from check_directory(directory)


def check_directory(directory: Path) -> Iterator[Finding]:
    """Check configuration, tensors, tokenizer, chat template and memory, each as far as what it needs is sound."""
    try:
        config = load_config(directory, _engine_settings().ignore_config_keys)
    except QuireError as wrong:
        yield problem("model config", str(wrong), DOWNLOAD_AGAIN)
        return
    yield ok(
        "model config",
        f"{config.architecture}, {config.num_layers} layers, hidden size {config.hidden_size}, "
        f"up to {config.max_position_embeddings} tokens",
    )
    tensors = _attempt("model tensors", DOWNLOAD_AGAIN, lambda: _tensors(directory, config))
    yield tensors
    yield _attempt("tokenizer", DOWNLOAD_AGAIN, lambda: _tokenizer(directory, config))
    yield _attempt("chat template", "Correct it, or use /v1/completions.", lambda: _template(directory))
    if tensors.level != "problem":
        yield _attempt("model memory", "Serve it where there is more memory.", lambda: _memory(directory, config))


def _attempt(subject: str, advice: str, check_one: Callable[[], Finding]) -> Finding:
    try:
        return check_one()
    except QuireError as wrong:
        return problem(subject, str(wrong), advice)


def _engine_settings() -> EngineConfig:
    return resolve(EngineConfig, [from_environment(list(TABLES.values()), os.environ)]).config


def _tensors(directory: Path, config: ModelConfig) -> Finding:
    checkpoint = Checkpoint.open(directory)
    layout = tensor_layout(config, checkpoint)
    check_tensors(layout, checkpoint)
    exl2 = [shape for shape in layout.linears if Exl2Format().detect(checkpoint, shape.prefix)]
    for shape in exl2:
        load_exl2(checkpoint, shape)
    kinds = f"{len(exl2)} EXL2 matrices, their tables checked" if exl2 else "no EXL2 matrices"
    return ok(
        "model tensors", f"{len(checkpoint.names)} in {readable_size(_stored_bytes(checkpoint))}, none missing; {kinds}"
    )


def _stored_bytes(checkpoint: Checkpoint) -> int:
    return sum(math.prod(checkpoint.shape(name)) * checkpoint.dtype(name).itemsize for name in checkpoint.names)


def _tokenizer(directory: Path, config: ModelConfig) -> Finding:
    tokenizer = load_tokenizer(directory)
    token_bytes(tokenizer, config.vocab_size)
    return ok("tokenizer", f"{len(tokenizer.vocabulary())} tokens, of {config.vocab_size} the model has room for")


def _template(directory: Path) -> Finding:
    template = load_chat_template(directory)
    if template is None:
        return warning("chat template", "the model has none", "Use /v1/completions; chats will be refused.")
    template.render([{"role": "user", "content": "Hello"}])
    return ok("chat template", probe(template).summary())


def _memory(directory: Path, config: ModelConfig) -> Finding:
    settings = _engine_settings()
    backend = select_backend(settings.device, settings.kernels, settings.threads)
    plan = plan_model(settings, directory, config, backend)
    cache, free = plan.cache, "an unknown amount" if plan.free is None else readable_size(plan.free)
    return ok(
        "model memory",
        f"weights {readable_size(plan.weights.total)}, workspace {readable_size(plan.workspace)}, KV cache "
        f"{readable_size(cache.num_bytes)} ({cache.num_tokens} tokens in {cache.dtype}), longest sequence "
        f"{cache.max_model_len} tokens; {free} free now",
    )
