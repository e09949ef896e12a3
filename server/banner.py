"""What a person wants to know when the server is up."""

from __future__ import annotations

import json
from typing import Any

from engine.types import ModelInfo
from server.config import ServerConfig
from server.models.registry import Models


def base_url(host: str, port: int, *, tls: bool = False) -> str:
    """Where clients reach the API; a wildcard address is shown as this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if tls else 'http'}://{shown}:{port}/v1"


def banner(models: Models, config: ServerConfig, url: str) -> str:
    """The lines shown at start-up.

    Args:
        models: all there are; one may be loaded.
        config: settings of the HTTP side.
        url: base URL of the API.
    """
    access = ("access", "with an API key" if config.needs_key else "open, from this machine only")
    loaded = models.loaded
    others = [model.name for model in models if model is not loaded]
    rows = [] if loaded is None or loaded.info is None else _about(loaded.info, loaded.names)
    if others:
        rows.append(("declared" if loaded is None else "also", ", ".join(others)))
    rows += [("URL", url), access]
    lines = ["", *(f"  {name:<10} {value}" for name, value in rows), ""]
    if loaded is not None:
        chat = loaded.text.template is not None
        lines += ["Try it:", "", f"  {_example(loaded.name, config, url, chat=chat)}", ""]
    elif others:
        lines += ["A model is loaded with the first request that names it.", ""]
    else:
        lines += [f"Load a model: POST {url.removesuffix('/v1')}/admin/models/load", ""]
    return "\n".join(lines)


def _about(model: ModelInfo, names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        ("model", f"{', '.join(names)} ({model.architecture}, {_count(model.parameters)} parameters)"),
        ("format", f"{model.weight_format}, {_bits(model)}, {_size(model.weight_bytes)}"),
        ("device", f"{model.device}, {model.threads} thread{'s' if model.threads != 1 else ''}"),
        ("kernels", model.kernels),
        ("KV cache", f"{model.kv_cache_tokens:,} tokens, {_size(model.kv_cache_bytes)} ({model.kv_cache_dtype})"),
        ("context", f"{model.max_model_len:,} tokens"),
        ("loaded in", f"{model.load_seconds:.1f} s"),
    ]


def _example(name: str, config: ServerConfig, url: str, *, chat: bool) -> str:
    key = " -H 'Authorization: Bearer YOUR_KEY'" if config.needs_key else ""
    path = "/chat/completions" if chat else "/completions"
    body: dict[str, Any] = {"model": name}
    body |= {"messages": [{"role": "user", "content": "Hello!"}]} if chat else {"prompt": "Once upon a time"}
    quoted = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {url}{path}{key} -H 'Content-Type: application/json' -d '{quoted}'"


def _bits(model: ModelInfo) -> str:
    return f"{model.bits_per_weight:.2f} bits per weight (head {model.head_bits_per_weight:.2f})"


def _count(number: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


def _size(number: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"
