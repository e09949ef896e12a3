"""Probe: torch, its CUDA build, the GPUs and the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.free_memory import readable_size
from engine.ops.torch_build import CudaDevice, TorchBuild, describe_torch
from quire.doctor.finding import Finding, ok, problem, warning

DRIVER = Path("/proc/driver/nvidia/version")
"""Where NVIDIA's driver says which one it is."""


def check(_arguments: Sequence[str]) -> Iterator[Finding]:
    """Look at torch and its GPUs; takes no arguments."""
    build = describe_torch()
    yield ok("torch", f"{build.version}, {f'built for CUDA {build.cuda}' if build.cuda else 'built without CUDA'}")
    yield from check_gpus(build, driver_version(DRIVER))


def driver_version(path: Path) -> str | None:
    """Version of NVIDIA's driver, or None where there is none."""
    try:
        words = path.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), "of unknown version")


def check_gpus(build: TorchBuild, driver: str | None) -> Iterator[Finding]:
    """Whether torch and the driver get on, and torch has kernels for the GPUs."""
    if build.devices:
        for device in build.devices:
            yield _check_device(device, driver)
    elif driver is None:
        yield ok("GPU", "none (no NVIDIA driver here); models run on the CPU")
    elif build.cuda is None:
        yield warning(
            "GPU",
            f"there is an NVIDIA driver ({driver}), but this torch is a build without CUDA",
            "To use the GPU, install torch from PyPI: pip install --force-reinstall torch.",
        )
    else:
        why = f": {build.complaint}" if build.complaint else ""
        yield warning(
            "GPU",
            f"torch sees none, although there is an NVIDIA driver ({driver}){why}",
            "The driver may be older than torch's CUDA, the GPU hidden by CUDA_VISIBLE_DEVICES, or the container "
            "started without --gpus all. See nvidia-smi.",
        )


def _check_device(device: CudaDevice, driver: str | None) -> Finding:
    capability = ".".join(map(str, device.capability))
    fact = (
        f"{device.name}, {readable_size(device.memory)}, compute capability {capability}, driver {driver or 'unknown'}"
    )
    if device.supported:
        return ok("GPU", fact)
    return problem(
        "GPU", f"{fact}: this torch has no kernels for it", "Install a torch built for it, or use device cpu."
    )
