"""Child processes of ours: the same interpreter, finding the same packages, joined to us by a socket pair."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

from engine.errors import EngineDeadError
from engine.logs import settings_in_use


def start_child(module: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module as a child process, with the descriptor of its socket and how we log as arguments.

    Its output goes where ours goes, and it logs as we do.

    Returns:
        The process and our end of the socket.

    Raises:
        EngineDeadError: the system has no room for another process, or no descriptors.
    """
    try:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as on_failure, theirs:
            on_failure.callback(ours.close)
            descriptor = theirs.fileno()
            process = subprocess.Popen(
                # -P: a folder called `engine` where the user happens to stand must not be imported instead of ours
                [sys.executable, "-P", "-m", module, str(descriptor), *settings_in_use()],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": import_path()},
                process_group=0,  # Ctrl-C in a terminal goes to the parent alone, which decides what it means
            )
            on_failure.pop_all()
    except OSError as problem:
        raise EngineDeadError(f"No engine process can be started: {problem.strerror or problem}.") from problem
    return process, ours


def import_path() -> str:
    """Where this process looks for packages, in its order, so that the child finds the very same ones.

    Left out is the entry "", which means where the user stands. In a checkout it may have stood for the folder of
    our own packages, which is then put in front.
    """
    root = Path(__file__).resolve().parents[1]
    folders = [each for each in sys.path if each]
    known = root in (Path(each).resolve() for each in folders)
    return os.pathsep.join(folders if known else [str(root), *folders])


def end_with_parent(connection: socket.socket) -> None:
    """In a child: end this process the moment the parent is gone, whatever it is doing.

    Args:
        connection: to the parent.
    """

    def watch() -> None:
        poll = select.poll()
        # POLLHUP is always reported; Linux also tells when only the other side has stopped writing
        poll.register(connection, getattr(select, "POLLRDHUP", 0))
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
