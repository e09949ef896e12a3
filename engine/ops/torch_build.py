"""What the installed torch is, and which GPUs it sees."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU.

    Attributes:
        name: of the model of GPU.
        capability: compute capability, major and minor.
        memory: bytes, in total.
        supported: whether this build of torch has kernels for it.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    supported: bool


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch.

    Attributes:
        version: its version.
        cuda: version of CUDA it was built for; None for a build without.
        devices: GPUs it sees.
        complaint: what it says when it looks for GPUs and cannot use them; empty if nothing.
    """

    version: str
    cuda: str | None
    devices: tuple[CudaDevice, ...]
    complaint: str


def describe_torch() -> TorchBuild:
    """Look at torch and the GPUs it sees. Starts CUDA in this process."""
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = tuple(_device(index) for index in range(count))
    return TorchBuild(
        str(torch.__version__),
        torch.version.cuda,
        devices,
        " ".join(str(each.message).strip() for each in complaints),
    )


def _device(index: int) -> CudaDevice:
    properties = torch.cuda.get_device_properties(index)
    major, minor = int(properties.major), int(properties.minor)
    return CudaDevice(
        properties.name,
        (major, minor),
        int(properties.total_memory),
        _runs_on(torch.cuda.get_arch_list(), major, minor),
    )


def _runs_on(architectures: list[str], major: int, minor: int) -> bool:
    """Whether code for one of these architectures runs on a GPU of this capability.

    `sm_XY` is machine code, which runs on its own major version from its minor version on; `compute_XY` is source that
    the driver compiles for anything newer.
    """
    for each in architectures:
        kind, _, digits = each.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        built_for = divmod(number, 10)
        if kind == "compute" and built_for <= (major, minor):
            return True
        if kind == "sm" and built_for[0] == major and built_for[1] <= minor:
            return True
    return False
