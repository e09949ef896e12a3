"""docker-compose.yml, as it stands and as `docker compose config` reads it where that is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.config import EngineConfig
from quire.hub import HubConfig
from quire.settings import from_environment, settings_of
from server.config import ServerConfig

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVERS = ("quire", "quire-cpu")


def default_of(text: str) -> str:
    """What `${NAME:-default}` becomes without the variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_gives_up_every_privilege(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["init"] is True
    assert "privileged" not in service
    writable = [each for each in service["volumes"] if isinstance(each, str) or not each["read_only"]]
    assert writable == ["hub-cache:/var/cache/quire"]


@pytest.mark.parametrize("name", SERVERS)
def test_variables_for_the_server_are_settings_it_has(name: str) -> None:
    environment = {key: default_of(value) for key, value in COMPOSE["services"][name]["environment"].items()}
    source = from_environment([EngineConfig, ServerConfig, HubConfig], environment)
    assert {"api_key", "model"} <= source.values.keys()


@pytest.mark.parametrize("name", SERVERS)
def test_docker_waits_longer_than_the_server_drains(name: str) -> None:
    service = COMPOSE["services"][name]
    drain = float(default_of(service["environment"]["QUIRE_SHUTDOWN_TIMEOUT"]))
    grace = float(service["stop_grace_period"].removesuffix("s"))
    last_resort = 5  # what the server takes on top to end what is left
    assert grace >= drain + last_resort + 10


def test_only_this_machine_reaches_the_ports_unless_asked_otherwise() -> None:
    for service in COMPOSE["services"].values():
        for port in service["ports"]:
            assert default_of(port).startswith("127.0.0.1:")


def test_the_gpu_is_reserved_for_the_gpu_service() -> None:
    (device,) = COMPOSE["services"]["quire"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in COMPOSE["services"]["quire-cpu"]


def test_what_the_services_mount_and_build_from_is_there() -> None:
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            if isinstance(volume, str) and volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker compose`, which needs no engine for this; skips where it is not installed."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs docker with the compose plugin")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
    command = [docker, "compose", "--file", str(FILE), "--env-file", os.devnull, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=kept | environment, check=False)


def resolved(*profiles: str, **environment: str) -> dict[str, Any]:
    options = [word for profile in profiles for word in ("--profile", profile)]
    result = compose(*options, "config", "--format", "json", QUIRE_API_KEY="a key", **environment)
    assert result.returncode == 0, result.stderr
    services: dict[str, Any] = json.loads(result.stdout)["services"]
    return services


@pytest.mark.parametrize("environment", [{}, {"QUIRE_API_KEY": ""}], ids=["unset", "empty"])
def test_without_a_key_compose_refuses_and_says_how_to_set_one(environment: dict[str, str]) -> None:
    result = compose("--profile", "cpu", "config", **environment)
    assert result.returncode != 0
    assert "QUIRE_API_KEY" in result.stderr
    assert "openssl rand -hex 32" in result.stderr


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        (("cpu",), {"quire-cpu"}),
        (("gpu",), {"quire"}),
        (("cpu", "monitoring"), {"quire-cpu", "prometheus", "grafana"}),
    ],
)
def test_profiles_choose_the_services(profiles: tuple[str, ...], services: set[str]) -> None:
    assert set(resolved(*profiles)) == services


def test_the_environment_reaches_the_server() -> None:
    service = resolved("cpu", QUIRE_MODEL="org/name", PUBLISH="0.0.0.0:9000", MODELS_DIR="/srv/models")["quire-cpu"]
    assert service["environment"]["QUIRE_API_KEY"] == "a key"
    assert service["environment"]["QUIRE_MODEL"] == "org/name"
    assert (service["ports"][0]["host_ip"], service["ports"][0]["published"]) == ("0.0.0.0", "9000")
    assert service["volumes"][0]["source"] == "/srv/models"


def test_no_variable_of_ours_on_the_host_would_upset_quire_itself() -> None:
    """`quire serve` refuses unknown QUIRE_ variables, and people export those this file names."""
    configs = (EngineConfig, ServerConfig, HubConfig)
    settings = {setting.variable for config in configs for setting in settings_of(config)}
    named = set(re.findall(r"\$\{(QUIRE_\w+)", FILE.read_text(encoding="utf-8")))
    assert named <= settings
