"""An app around a scripted engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.client import EngineClient
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.fakes.engine import FakeEngine
from tests.fakes.text import model_text

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    """Text side of the fake model."""
    return model_text(tmp_path_factory.mktemp("fake-model"))


@pytest.fixture
def engine() -> FakeEngine:
    """The engine behind `client`; tests may change its script."""
    return FakeEngine()


@pytest.fixture
def make_client(engine: FakeEngine, text: ModelText) -> MakeClient:
    """Makes a client for the app with these settings."""

    def make(model_text: ModelText = text, client_engine: EngineClient = engine, **settings: Any) -> TestClient:
        app = create_app(client_engine, model_text, ServerConfig(**settings))
        return TestClient(app, base_url="http://127.0.0.1")

    return make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """A client for the app with default settings."""
    return make_client()
