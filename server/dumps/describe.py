"""From what was seen of a request to the JSON of its dump. Nothing here touches files or runs on the event loop."""

from __future__ import annotations

import platform
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_origin, get_type_hints

from starlette.exceptions import HTTPException

from engine.config import EngineConfig
from engine.types import ModelInfo
from server.config import ServerConfig
from server.dumps.answers import read_answer
from server.dumps.exchange import MAX_ANSWER_BYTES, Exchange
from server.dumps.redaction import Redactor
from server.generation import Generation
from server.validation import parse_json
from server.version import installed_version

FORMAT = "quire-request-dump"
VERSION = 1


def describe(
    exchange: Exchange,
    request_id: str,
    generation: Generation | None,
    redactor: Redactor | None,
    about: dict[str, Any],
) -> dict[str, Any]:
    """The dump.

    Args:
        exchange: request and answer.
        request_id: of the request.
        generation: what was generated, if it came to that.
        redactor: takes the words out; None keeps them.
        about: the server, see `about_server`.
    """
    try:
        body = parse_json(bytes(exchange.body))
    except HTTPException:
        body = None
    return {
        "format": FORMAT,
        "version": VERSION,
        "request_id": request_id,
        "received": moment(exchange.received),
        "received_unix": exchange.received,
        "method": exchange.method,
        "path": exchange.path,
        "content_kept": redactor is None,
        "body_bytes": len(exchange.body),
        "body": body if redactor is None else redactor.redacted(body),
        "generation": None if generation is None else _generation(generation),
        "response": _response(exchange, redactor),
        "engine_at_arrival": exchange.stats._asdict(),
        "server": about,
    }


def moment(received: float) -> str:
    """A time in Unix seconds as `20260131T235959.123456Z`."""
    return datetime.fromtimestamp(received, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def about_server(model: ModelInfo | None, server: ServerConfig, engine: EngineConfig) -> dict[str, Any]:
    """Versions, the model and the settings, without what names a place, a person or a secret."""
    return {
        "quire": installed_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "model": None if model is None else {key: value for key, value in asdict(model).items() if key != "path"},
        "settings": {"server": _settings(server), "engine": _settings(engine)},
    }


def _settings(config: ServerConfig | EngineConfig) -> dict[str, Any]:
    """Numbers, switches and choices. A free text or a list may be a path, a host or a key."""
    kinds = get_type_hints(type(config))
    return {
        each.name: getattr(config, each.name)
        for each in fields(config)
        if kinds[each.name] in (int, float, bool) or get_origin(kinds[each.name]) is Literal
    }


def _generation(generation: Generation) -> dict[str, Any]:
    sampling = asdict(generation.sampling)
    for name in ("stop", "logit_bias", "grammar"):  # they stand in the body, redacted where that is
        del sampling[name]
    timings = generation.timings
    return {
        "answer_id": generation.answer_id,
        "seeds": generation.seeds,
        "sampling": sampling,
        "grammar": None if generation.sampling.grammar is None else generation.sampling.grammar.kind,
        "prompt_tokens": [len(each) for each in generation.prompts],
        "usage": asdict(generation.usage),
        "finish_reasons": generation.finish_reasons,
        "timings": None if timings is None else timings._asdict(),
        "longest_gap_seconds": generation.longest_gap,
    }


def _response(exchange: Exchange, redactor: Redactor | None) -> dict[str, Any]:
    answer = read_answer(bytes(exchange.answer))
    error = answer.error
    if error is not None and redactor is not None:
        error = {**error, "param": redactor.param(error.get("param"))}
        if exchange.status < 500 and exchange.status not in (200, 408, 429):
            del error["message"]  # it may quote the request
    known = redactor is None and len(exchange.answer) < MAX_ANSWER_BYTES
    return {
        "status": exchange.status,
        "seconds": round(exchange.seconds, 6),
        "error": error,
        "texts": [answer.texts[index] for index in sorted(answer.texts)] if known else None,
        "chunks": exchange.chunks,
    }
