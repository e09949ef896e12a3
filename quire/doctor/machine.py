"""Checks of the machine: processor, memory, port, and places that are written to."""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from engine.errors import CapacityError
from engine.free_memory import MemoryFiles, free_memory, readable_size
from engine.ops.cpu_count import CGROUPS, MEMBERSHIP, cpu_quota, usable_cores
from quire.doctor.finding import Finding, ok, problem, warning

LITTLE_MEMORY = 2**30
LITTLE_DISK = 5 * 2**30
HOME = Path(__file__).resolve().parents[2]


def check_processor() -> Finding:
    """How many threads the kernels will use, and why."""
    cores, quota = usable_cores(), cpu_quota(CGROUPS, MEMBERSHIP)
    limit = "" if math.isinf(quota) else f"; the control group pays for {quota:g} CPUs"
    return ok("processor", f"{cores} core{'s' if cores != 1 else ''} to use of {os.cpu_count()} CPUs{limit}")


def check_memory(files: MemoryFiles | None = None) -> Finding:
    """How much memory a model and its cache may take."""
    files = files or MemoryFiles()
    try:
        free = free_memory(files)
        machine = free_memory(MemoryFiles(files.meminfo, Path(os.devnull), files.hierarchy))
    except CapacityError as unknown:
        return warning("memory", str(unknown), "Set kv_cache_tokens.")
    except ValueError as unreadable:
        return warning(
            "memory", f"the limits of the control group cannot be read: {unreadable}", "Set kv_cache_tokens."
        )
    limited = f" ({readable_size(machine)} on the machine; the control group allows less)" if free < machine else ""
    fact = f"{readable_size(free)} free{limited}"
    if free < LITTLE_MEMORY:
        return warning("memory", fact, "Enough for a small model only: end other programs, or raise the memory limit.")
    return ok("memory", fact)


def check_port(host: str, port: int) -> Finding:
    """Whether a server could listen there."""
    subject = f"port {port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)  # binding alone succeeds beside another that does not listen yet
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            return warning(
                subject,
                f"something listens on {host} already",
                "If that is no server of yours, end it, or choose another port with --port.",
            )
        return problem(
            subject, f"cannot listen on {host}: {failure.strerror or failure}", "Choose another with --port."
        )
    return ok(subject, f"is free on {host}")


def check_temporary() -> Finding:
    """Whether temporary files can be written."""
    subject = "temporary files"
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"0")
            file.flush()
    except OSError as failure:
        return problem(
            subject, f"cannot be written: {failure.strerror or failure}", "Mount a writable /tmp, or set TMPDIR to one."
        )
    return ok(subject, f"can be written in {tempfile.gettempdir()}")


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where `huggingface_hub` keeps models, by the variables it documents."""
    if environment.get("HF_HUB_CACHE"):
        return Path(environment["HF_HUB_CACHE"]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def check_hub_cache(environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether models can be fetched: their folder is writable, or can be made, and has room."""
    subject = "hub cache"
    try:
        folder = hub_cache(environment)
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        room = shutil.disk_usage(existing).free
    except (OSError, RuntimeError, StopIteration) as failure:  # RuntimeError: there is no home directory
        return warning(subject, f"cannot be found: {failure}", "Set HF_HOME to a folder that can be written.")
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return warning(
            subject,
            f"{folder} cannot be written by user {os.geteuid()}, so models cannot be fetched by hub id",
            f"Give that user {existing}, or set HF_HOME to a folder that can be written.",
        )
    fact = f"{folder}, {readable_size(room)} free"
    if room < LITTLE_DISK:
        return warning(subject, fact, "Most models need more: free space, or set HF_HOME to a larger disk.")
    return ok(subject, fact)


def check_files(home: Path = HOME) -> Finding:
    """Whether this user may read all of Quire's own files."""
    folders = ("quire", "engine", "server", "quantize", "cpu_ext", "cuda_ext", "demo")
    sealed = [path for folder in folders for path in unreadable(home / folder)]
    if sealed:
        return problem(
            "files", f"user {os.geteuid()} may not read {sealed[0]} ({len(sealed)} such)", f"chmod -R a+rX {home}"
        )
    return ok("files", "Quire's own can all be read")


def unreadable(folder: Path) -> list[Path]:
    """Files and folders below a folder, itself included, that this user may not read."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        return [folder]
    return [
        Path(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if not os.access(Path(parent, name), os.R_OK)
    ]
