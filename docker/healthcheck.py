"""HEALTHCHECK of the images: exit status 0 while the server in this container takes requests, 1 otherwise.

It asks the port in QUIRE_PORT, so set the port there and not with --port.
"""

from __future__ import annotations

import os
import sys
import urllib.request


def main() -> int:
    """Ask /health, which needs no key."""
    url = f"http://127.0.0.1:{os.environ.get('QUIRE_PORT') or '8000'}/health"
    # a proxy that is set for downloads must not be asked for this container's own port
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=4) as answer:
            print(answer.read().decode(errors="replace"))
    except (OSError, ValueError) as problem:  # HTTPError and URLError are OSErrors
        print(f"{url}: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
