"""Waiting for something on this machine to answer."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable

# Whatever proxy the machine has, it does not know our loopback addresses.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str, timeout_seconds: float = 5) -> bool:
    """Whether a GET of `url` comes back as 200."""
    try:
        with _DIRECT.open(url, timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until(
    holds: Callable[[], bool], *, within_seconds: float, while_alive: Callable[[], bool] = lambda: True
) -> bool:
    """Ask often until `holds` does; False once the time is over, or `while_alive` no longer holds."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        if not while_alive():
            return False
        time.sleep(0.05)
    return False
