"""HTTPS with certificates made on the spot."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from engine.config import EngineConfig
from engine.errors import ConfigError
from server.config import ServerConfig
from server.main import run
from server.models.catalogue import only
from server.tls import tls_options
from tests.fakes.text import write_model_text
from tests.server.test_main import url_of

SCRIPT = """
import sys
import server.main
from engine.config import EngineConfig
from server.config import ServerConfig
from server.models.catalogue import only
from tests.fakes.engine import FakeEngine

class Fake(FakeEngine):
    @classmethod
    async def start(cls, config, *, on_progress, when_checked, room_to_come):
        return cls()

server.main.SupervisedEngine = Fake
config = ServerConfig(port=0, ssl_certfile=sys.argv[2], ssl_keyfile=sys.argv[3], ssl_keyfile_password="secret",
                      ssl_ca_certs=sys.argv[4])
sys.exit(server.main.run(config, only(EngineConfig(model=sys.argv[1], name="fake-model"))))
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key, encrypted with `secret`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:secret", "-days", "2"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *subject, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("mutual", [False, True], ids=["server", "both"])
def test_speaks_https(tmp_path: Path, certificate: tuple[Path, Path], mutual: bool) -> None:
    authorities = str(certificate[0]) if mutual else ""
    model = write_model_text(tmp_path)
    command = [sys.executable, "-c", SCRIPT, str(model), *map(str, certificate), authorities]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            url = url_of(running)
            assert url.startswith("https://127.0.0.1:")
            known = ssl.create_default_context(cafile=str(certificate[0]))
            if mutual:
                with pytest.raises(httpx.TransportError):
                    httpx.get(f"{url}/models", verify=known)
                known.load_cert_chain(*certificate, "secret")
            assert httpx.get(f"{url}/models", verify=known).json()["data"][0]["id"] == "fake-model"
            with pytest.raises(httpx.TransportError):
                httpx.get(url.replace("https", "http") + "/models")
        finally:
            running.kill()


def test_plain_http_needs_no_options() -> None:
    assert tls_options(ServerConfig()) == {}


@pytest.mark.parametrize("password", ["", "wrong"])
def test_an_encrypted_key_wants_its_password(certificate: tuple[Path, Path], password: str) -> None:
    files = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    with pytest.raises(ConfigError, match="ssl_keyfile_password"):
        tls_options(ServerConfig(**files, ssl_keyfile_password=password))  # type: ignore[arg-type]


def test_unusable_files_are_named_before_the_model_is_loaded(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    nothing = only(EngineConfig(model=str(tmp_path / "no-model")))
    with pytest.raises(ConfigError, match=r"none\.pem"):
        run(ServerConfig(ssl_certfile=str(tmp_path / "none.pem")), nothing)
    with pytest.raises(ConfigError, match=r"ssl_ca_certs .*none\.pem"):
        run(
            ServerConfig(
                ssl_certfile=str(certificate[0]),
                ssl_keyfile=str(certificate[1]),
                ssl_keyfile_password="secret",
                ssl_ca_certs=str(tmp_path / "none.pem"),
            ),
            nothing,
        )
    with pytest.raises(ConfigError, match="key file"):
        run(ServerConfig(api_key_file=str(tmp_path / "none")), nothing)
