"""Entry point of the `quire` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quire.import_names import check_import_names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process if left out.

    Returns:
        Exit status: 0 done, 1 failed, 2 the command line or configuration is wrong, 130 interrupted.
    """
    try:
        check_import_names()
    except ImportError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    from quire.dispatch import dispatch  # not before our packages are known to be ours

    return dispatch(sys.argv[1:] if arguments is None else list(arguments))
