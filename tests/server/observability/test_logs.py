"""What is logged of the event loop's own errors."""

from __future__ import annotations

import asyncio
import errno

import pytest

from server.observability.logs import LoopErrorLog, Seldom


def test_descriptors_that_ran_out_are_one_line_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    loop, log = asyncio.new_event_loop(), LoopErrorLog()
    for _ in range(2048):
        log(loop, {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "Too many")})
    loop.close()
    (line,) = caplog.records
    assert "ulimit -n" in line.getMessage()
    assert line.exc_info is None


def test_other_errors_are_logged_each(caplog: pytest.LogCaptureFixture) -> None:
    loop, log = asyncio.new_event_loop(), LoopErrorLog()
    log(loop, {"message": "a task", "exception": ValueError("a secret")})
    log(loop, {"message": "another"})
    loop.close()
    assert caplog.messages == ["a task", "another"]


def test_seldom_is_time_again_later() -> None:
    often, seldom = Seldom(0.0), Seldom(1000.0)
    assert [often.now(), often.now()] == [True, True]
    assert [seldom.now(), seldom.now()] == [True, False]
