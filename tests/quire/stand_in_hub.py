"""A hub of one model on the loopback interface: as much of the hub's HTTP interface as downloading a model needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class StandInHub:
    """What the hub holds, and what was asked of it.

    Attributes:
        models: files of each revision of each model.
        gated: ids of models whose terms nobody has accepted.
        endpoint: its URL.
        fetched: paths of the files that were downloaded, whole or in part.
        sent: bytes of them.
    """

    models: Mapping[str, Mapping[str, Files]]
    gated: frozenset[str] = frozenset()
    endpoint: str = ""
    fetched: list[str] = field(default_factory=list)
    sent: int = 0

    def commit(self, model: str, revision: str) -> str:
        """The commit a branch points at."""
        return hashlib.sha1(f"{model}@{revision}".encode()).hexdigest()

    def files(self, model: str, revision: str) -> tuple[str, Files] | None:
        """Commit and files of a branch or commit."""
        for branch, files in self.models[model].items():
            commit = self.commit(model, branch)
            if revision in (branch, commit):
                return commit, files
        return None


@contextmanager
def stand_in_hub(
    models: Mapping[str, Mapping[str, Files]], gated: frozenset[str] = frozenset()
) -> Iterator[StandInHub]:
    """Run a hub for the duration of a `with` block."""
    hub = StandInHub(models, gated)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            model, what, rest = "/".join(parts[2:4]), parts[4:5], parts[5:]
        else:
            model, what, rest = "/".join(parts[:2]), parts[2:3], parts[3:]
        if model not in self.hub.models:
            return self._error(404, "RepoNotFound")
        if model in self.hub.gated:
            return self._error(403, "GatedRepo")
        found = self.hub.files(model, rest[0] if rest else "main")
        if found is None:
            return self._error(404, "RevisionNotFound")
        commit, files = found
        if what == ["tree"]:
            return self._json([_entry(path, data) for path, data in files.items()])
        if what == ["resolve"]:
            return self._file("/".join(rest[1:]), files, commit, body)
        siblings = [{"rfilename": path} for path in files]
        return self._json({"_id": "0", "id": model, "modelId": model, "sha": commit, "siblings": siblings, "tags": []})

    def _file(self, path: str, files: Files, commit: str, body: bool) -> None:
        if path not in files:
            return self._error(404, "EntryNotFound")
        data, etag = files[path], f'"{_etag(files[path])}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is not None:
            data = data[int(wanted[1]) : int(wanted[2]) + 1]
        headers = {"ETag": etag, "X-Repo-Commit": commit, "Content-Length": str(len(data))}
        self._send(200 if wanted is None else 206, headers, data if body else b"")
        if body:
            self.hub.fetched.append(path)
            self.hub.sent += len(data)
        return None

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self._send(200, {"Content-Type": "application/json", "Content-Length": str(len(data))}, data)

    def _error(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"}, b"")

    def _send(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
