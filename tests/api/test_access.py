"""Who may use the server: every route with every kind of key, and web pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from starlette.routing import Route

from server import app as app_module
from server.app import create_app
from server.auth import AccessMiddleware
from server.config import ServerConfig
from server.keys import KeyRing
from server.scopes import AccessScope, RouteTable, access
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine
from tests.server.test_scopes import write

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}
KEYS = {"none": "", "wrong": "w", "user": "u", "admin": "a", "metrics": "m"}
LET_IN = {
    AccessScope.PUBLIC: {"none", "wrong", "user", "admin", "metrics"},
    AccessScope.USER: {"user", "admin"},
    AccessScope.ADMIN: {"admin"},
    AccessScope.METRICS: {"admin", "metrics"},
}
SCOPES = {
    ("GET", "/openapi.json"): AccessScope.USER,
    ("GET", "/docs"): AccessScope.USER,
    ("GET", "/docs/oauth2-redirect"): AccessScope.USER,
    ("GET", "/redoc"): AccessScope.USER,
    ("POST", CHAT): AccessScope.USER,
    ("POST", "/v1/completions"): AccessScope.USER,
    ("POST", "/v1/chat/completions/render"): AccessScope.USER,
    ("POST", "/v1/chat/completions/input_tokens"): AccessScope.USER,
    ("POST", "/v1/completions/render"): AccessScope.USER,
    ("POST", "/v1/completions/input_tokens"): AccessScope.USER,
    ("POST", "/v1/requests/{request_id}/cancel"): AccessScope.USER,
    ("POST", "/v1/embeddings"): AccessScope.USER,
    ("GET", "/v1/models"): AccessScope.USER,
    ("GET", "/v1/models/{model_id:path}"): AccessScope.USER,
    ("POST", "/tokenize"): AccessScope.USER,
    ("POST", "/detokenize"): AccessScope.USER,
    ("GET", "/tokenizer_info"): AccessScope.USER,
    ("GET", "/health"): AccessScope.PUBLIC,
    ("GET", "/health/live"): AccessScope.PUBLIC,
    ("GET", "/health/ready"): AccessScope.PUBLIC,
    ("GET", "/metrics"): AccessScope.METRICS,
    ("GET", "/admin/models"): AccessScope.ADMIN,
    ("POST", "/admin/models/load"): AccessScope.ADMIN,
    ("POST", "/admin/models/unload"): AccessScope.ADMIN,
    ("POST", "/admin/models/cancel"): AccessScope.ADMIN,
}
"""Every route there is. A new one is entered here too, so that its scope is decided and not happened upon."""


def headers(kind: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[kind]}"} if KEYS[kind] else {}


@pytest.fixture
def keyed(make_client: MakeClient) -> TestClient:
    """An app with a key of each scope."""
    return make_client(host="0.0.0.0", api_key=("u",), admin_key=("a",), metrics_key=("m",))


def test_the_table_has_every_route(keyed: TestClient) -> None:
    app = keyed.app
    (guard,) = [each for each in app.user_middleware if each.cls is AccessMiddleware]  # type: ignore[attr-defined]
    declared = {
        (method, route.path): scope for route, scope in guard.kwargs["routes"].routes for method in route.methods
    }
    assert {key: scope for key, scope in declared.items() if key[0] != "HEAD"} == SCOPES
    documented = app.openapi()["paths"]  # type: ignore[attr-defined]
    assert {path.replace(":path}", "}") for _, path in SCOPES} >= documented.keys()


@pytest.mark.parametrize(("method", "path"), SCOPES)
@pytest.mark.parametrize("kind", KEYS)
def test_every_route_with_every_key(keyed: TestClient, method: str, path: str, kind: str) -> None:
    path = path.replace("{model_id:path}", "fake-model")
    scope = SCOPES[(method, path.replace("/fake-model", "/{model_id:path}"))]
    response = keyed.request(method, path, headers=headers(kind), json={} if method == "POST" else None)
    if kind in LET_IN[scope]:
        # 400: the empty body got as far as its validation; 404: nothing of this name runs
        assert response.status_code in ((404,) if "{request_id}" in path else (200, 400))
    elif kind in ("none", "wrong"):
        error = error_of(response, 401)
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    else:
        error = error_of(response, 403)
        assert (error["type"], error["code"]) == ("permission_error", "insufficient_scope")
        assert f"'{scope}'" in error["message"]


@pytest.mark.parametrize(("kind", "status"), [("none", 401), ("metrics", 403), ("user", 404), ("admin", 404)])
def test_what_is_not_there_is_shown_to_users_only(keyed: TestClient, kind: str, status: int) -> None:
    error_of(keyed.get("/nothing", headers=headers(kind)), status)


def test_wrong_methods_are_told_to_who_may_call_the_path(keyed: TestClient) -> None:
    assert keyed.get(CHAT).status_code == 401
    assert keyed.get(CHAT, headers=headers("user")).status_code == 405
    assert keyed.post("/health").status_code == 405


def test_an_admins_route_wants_an_admins_key() -> None:
    config = ServerConfig(api_key=("u",), admin_key=("a",), metrics_key=("m",))
    route = Route("/admin", write, methods=["POST"])
    guarded = AccessMiddleware(route.app, config, KeyRing(config), RouteTable([route]))
    client = TestClient(guarded)
    for kind in KEYS:
        allowed = client.post("/admin", headers=headers(kind)).status_code == 200
        assert allowed == (kind in LET_IN[AccessScope.ADMIN]), kind


def test_a_route_without_a_scope_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, text: ModelText
) -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    monkeypatch.setattr(app_module, "ROUTERS", (*app_module.ROUTERS, router))
    with pytest.raises(TypeError, match="/forgotten"):
        create_app(engine, text, ServerConfig())


def test_a_route_added_later_is_not_served(make_client: MakeClient) -> None:
    client = make_client()

    @access(AccessScope.PUBLIC)
    async def late() -> None: ...

    client.app.add_api_route("/late", late)  # type: ignore[attr-defined]
    assert client.get("/late").status_code == 404


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"authorization", b"Bearer u", 200),
        (b"authorization", b"bearer   u ", 200),
        (b"x-api-key", b"u", 200),
        (b"x-api-key", b"a", 200),
        (b"authorization", b"Bearer ", 401),
        (b"authorization", b"Basic u", 401),
        (b"authorization", b"u", 401),
        (b"authorization", b"Bearer u,u", 401),
        (b"x-api-key", "ü".encode(), 401),
        (b"x-api-key", b"\xff\x80", 401),
    ],
)
def test_where_the_key_stands(keyed: TestClient, name: bytes, value: bytes, status: int) -> None:
    assert keyed.post(CHAT, json=BODY, headers={name: value}).status_code == status


def test_a_user_reads_the_metrics_while_they_have_no_key_of_their_own(make_client: MakeClient) -> None:
    client = make_client(api_key=("u",))
    assert client.get("/metrics", headers=headers("user")).status_code == 200
    assert client.get("/metrics").status_code == 401


def test_the_key_file_is_read_again(make_client: MakeClient, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first\n")
    client = make_client(host="0.0.0.0", api_key_file=str(file))
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers={"x-api-key": "first"}).status_code == 200
    file.write_text("the second\n".replace(" ", "-"))
    assert client.get("/v1/models", headers={"x-api-key": "first"}).status_code == 401
    assert client.get("/v1/models", headers={"x-api-key": "the-second"}).status_code == 200


def test_without_a_key_only_known_hosts_are_answered(make_client: MakeClient) -> None:
    client = make_client(allowed_hosts=("box.lan",))
    for host in ("localhost", "localhost:8000", "[::1]:8000", "BOX.lan:80", "127.0.0.1:8000", "127.0.0.1"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "evil.example:8000", ""):
        error = error_of(client.get("/v1/models", headers={"Host": host}), 403)
        assert (error["type"], error["code"]) == ("permission_error", "unknown_host")
    keyed = make_client(api_key=("u",))
    assert keyed.get("/v1/models", headers={"Host": "proxy.example", **headers("user")}).status_code == 200


def test_without_a_key_no_pages_from_elsewhere_are_answered(make_client: MakeClient) -> None:
    client = make_client(cors_origins=("https://chat.example",))
    own = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert client.post(CHAT, json=BODY, headers=own).status_code == 200
    assert client.post(CHAT, json=BODY, headers={"Origin": "https://chat.example"}).status_code == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost", "", "http://[", "x"):
        headers_ = {"Host": "localhost:8000", "Origin": origin}
        error = error_of(client.post(CHAT, json=BODY, headers=headers_), 403)
        assert (error["type"], error["code"]) == ("permission_error", "unknown_origin"), origin
    keyed = make_client(api_key=("u",))
    elsewhere = {"Origin": "https://evil.example", **headers("user")}
    assert keyed.post(CHAT, json=BODY, headers=elsewhere).status_code == 200  # a page cannot know the key


def test_pages_of_allowed_origins_may_read_answers(make_client: MakeClient) -> None:
    client = make_client(api_key=("u",), cors_origins=("https://chat.example",))
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    preflight = client.options(CHAT, headers={"Origin": "https://chat.example", **asking})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    for sent, status in ((headers("user"), 200), ({}, 401)):
        answer = client.post(CHAT, json=BODY, headers={"Origin": "https://chat.example", **sent})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    other = client.options(CHAT, headers={"Origin": "https://evil.example", **asking})
    assert "access-control-allow-origin" not in other.headers


def test_pages_may_read_nothing_by_default(make_client: MakeClient) -> None:
    client = make_client(api_key=("u",))
    answer = client.post(CHAT, json=BODY, headers={"Origin": "https://chat.example", **headers("user")})
    assert "access-control-allow-origin" not in answer.headers
