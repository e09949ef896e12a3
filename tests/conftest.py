"""Fixtures every test may use."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from cpu_ext.loader import find_compiler
from tests.emulation.build import build_emulated
from tests.emulation.device import EmulatedRuntime

GOLDEN = Path(__file__).parent / "golden"
EMULATION = Path(__file__).parent / "emulation"
EMULATION_BUILD = Path(__file__).resolve().parents[1] / "build" / "emulation"
SHARED = Path(__file__).resolve().parents[2] / "shared"

# how long an example takes says how busy the machine is, not whether the code is right
WITHOUT_A_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("random", WITHOUT_A_CLOCK, derandomize=False)
settings.register_profile("reproducible", WITHOUT_A_CLOCK, derandomize=True)
settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--sanitize`: see tests/emulation/sanitized.py, which starts such runs."""
    parser.addoption(
        "--sanitize", action="store_true", help="emulated CUDA kernels end the process when they leave their tensors"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Make the run the same wherever it is started, for the tests and for the programs they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
    ours = ["127.0.0.1", "localhost"]  # no proxy is between us and ourselves
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join([each for each in [os.environ.get(name, "")] if each] + ours)
    if settings.default is not None and settings.default.derandomize:
        # examples also come from the constants of what is imported so far, which depends on the tests before
        providers._get_local_constants = lambda: providers._local_constants  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first test on the emulated device take as long as compiling that may."""
    for item in items:
        if "emulated" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference tensors made by the original implementations (see its README)."""
    return GOLDEN


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of large test material that is not part of the project; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which is not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def emulated(request: pytest.FixtureRequest) -> EmulatedRuntime:
    """The CUDA kernels on the emulated device; compiling them takes a minute the first time."""
    if find_compiler() is None:
        pytest.skip("needs a C++ compiler")
    EMULATION_BUILD.mkdir(parents=True, exist_ok=True)
    sanitize: bool = request.config.getoption("--sanitize")
    with (EMULATION_BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes that run tests one compiles
        library = build_emulated(EMULATION_BUILD, [EMULATION / "probes.cu"], sanitize=sanitize)
    return EmulatedRuntime(library)
