"""The device that runs late notices what a real one would wait for."""

from __future__ import annotations

import pytest
import torch

from tests.emulation.late import LateDevice


@pytest.fixture
def device() -> LateDevice:
    late = LateDevice()
    late.settle()
    return late


def test_what_is_given_is_done_when_somebody_waits(device: LateDevice) -> None:
    numbers, event = torch.zeros(3), device.event()
    with device.computing():
        numbers.add_(1)
    event.record()
    assert (numbers.tolist(), device.done, device.operations) == ([0, 0, 0], 0, {"add_"})
    event.wait()
    assert (numbers.tolist(), device.done) == ([1, 1, 1], device.given)


def test_looking_at_a_value_is_an_error(device: LateDevice) -> None:
    with device.computing(), pytest.raises(AssertionError, match="waits for the device"):
        torch.ones(1).add_(1).item()


def test_a_copy_from_the_host_that_waits_is_an_error(device: LateDevice) -> None:
    host, target = device.host_buffer(8), torch.zeros(4, dtype=torch.uint8)
    with device.computing():
        target.copy_(host[4:], non_blocking=True)
        with pytest.raises(AssertionError, match="not non_blocking"):
            target.copy_(host[:4])
