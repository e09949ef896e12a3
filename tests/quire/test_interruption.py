"""A signal ends the work, whatever the code that is interrupted makes of the exception."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import QuantizationError
from quire.interruption import Interruptible

ENDING = [signal.SIGTERM, signal.SIGINT]


def swallow(number: signal.Signals) -> None:
    """Take a signal as a library does whose callback fails."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("the signal did not interrupt")


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_interrupts(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Interruptible():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", ENDING)
def test_an_error_that_follows_is_the_interruptions(number: signal.Signals) -> None:
    def fail() -> None:
        with Interruptible():
            swallow(number)
            raise QuantizationError("The library says that the file is damaged.")

    with pytest.raises(KeyboardInterrupt) as end:
        fail()
    assert isinstance(end.value.__cause__, QuantizationError)


def test_an_error_without_a_signal_is_itself() -> None:
    with pytest.raises(QuantizationError), Interruptible():
        raise QuantizationError("The file is damaged.")


def test_who_goes_on_is_interrupted_again_and_again() -> None:
    def go_on() -> None:
        with Interruptible(again=0.05):
            swallow(signal.SIGTERM)
            for _ in range(3):
                with contextlib.suppress(KeyboardInterrupt):
                    time.sleep(60)
            time.sleep(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        go_on()
    assert time.monotonic() - began < 60


def test_what_ends_by_itself_after_a_signal_is_done() -> None:
    with Interruptible():
        swallow(signal.SIGTERM)


@pytest.mark.parametrize("number", ENDING)
def test_everything_is_as_before_afterwards(number: signal.Signals) -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(each) for each in (*ENDING, signal.SIGALRM)]

    before, (left, interval) = handlers(), signal.getitimer(signal.ITIMER_REAL)
    with Interruptible():
        swallow(number)
        assert handlers() != before
    assert handlers() == before
    now_left, now_interval = signal.getitimer(signal.ITIMER_REAL)
    assert ((now_left > 0), now_interval) == ((left > 0), interval)  # pytest's own limit, where there is one


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


SLOW_IMPORT = """
import pathlib, sys, time
from quire import cli

class Slow:
    def find_spec(name, path=None, target=None):
        if name == "uvicorn":
            pathlib.Path(sys.argv[1]).touch()
            time.sleep(600)

sys.meta_path.insert(0, Slow)
sys.exit(cli.main(["serve"]))
"""


def test_a_server_that_is_told_to_end_before_it_is_imported_ends_well(tmp_path: Path) -> None:
    importing = tmp_path / "importing"
    process = subprocess.Popen([sys.executable, "-c", SLOW_IMPORT, str(importing)], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not importing.exists():
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate()
    assert (process.returncode, said) == (0, "")
