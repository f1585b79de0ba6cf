"""Where a kit without AWS has its state, as one says it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, urlencode

#: The variable that names it.
VARIABLE = "TURNKEEPER_DATABASE_URL"


def sqlite_url(file: Path) -> str:
    """The address of a file, whatever it is called."""
    return f"sqlite:///{quote(str(file))}"


def without_password(url: str) -> str:
    """An address that may be written down; of one that cannot be read, only its kind."""
    kind = url.partition("://")[0]
    if kind == "sqlite":
        return url
    if kind not in ("postgresql", "postgres"):
        return f"{kind}://..." if "://" in url else "..."
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(url)
        kept = {name: value for name, value in given.items() if name not in ("password", "sslpassword")}
        plain = url if kept == given else re.sub(r"^(\w+://[^:/@]*):[^/@]*@", r"\1@", url)
        # It may stand in several places and be escaped in many ways, of which libpq knows all.
        said = plain if conninfo_to_dict(plain) == kept else f"postgresql:///?{urlencode(kept, quote_via=quote)}"
    except psycopg.ProgrammingError:
        return f"{kind}://..."
    # What follows a bare @ or / in a password is taken for host, port and name.
    there = f"{given.get('host')}{given.get('dbname')}"
    return said if "@" not in there and re.fullmatch(r"[\d,]*", str(given.get("port", ""))) else f"{kind}://..."
