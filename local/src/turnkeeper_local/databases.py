"""Where a kit without AWS has its state, as one says it."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

#: The variable that names it.
VARIABLE = "TURNKEEPER_DATABASE_URL"


def without_password(url: str) -> str:
    """An address that may be written down."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{host}"))
