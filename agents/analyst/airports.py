"""A public data set as an SQLite file: the airports of the world, from the package ``airportsdata``.

Built at the first query, not when the agent is loaded: the front door loads every agent and queries none.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import importlib.resources
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SCHEMA = """
CREATE TABLE airports (
    icao TEXT, iata TEXT, name TEXT, city TEXT, region TEXT, country TEXT, elevation_ft INTEGER, latitude REAL,
    longitude REAL, timezone TEXT
);
CREATE TABLE metro_areas (country TEXT, city_code TEXT, city TEXT, iata TEXT, airport TEXT);
"""
_INDEXES = """
CREATE INDEX airports_by_country ON airports (country);
CREATE INDEX airports_by_iata ON airports (iata);
"""

#: What the agent may read. Countries are ISO 3166-1 alpha-2; an airport without an IATA code has NULL there.
TABLES = {
    "airports": [
        *("icao", "iata", "name", "city", "region", "country"),
        *("elevation_ft", "latitude", "longitude", "timezone"),
    ],
    "metro_areas": ["country", "city_code", "city", "iata", "airport"],
}


def database_url() -> str:
    """Address of the database, built where this machine does not have it yet."""
    file = _folder() / f"airports-{importlib.metadata.version('airportsdata')}-1.db"
    if not file.exists():
        _build(file)
    return f"sqlite:///{file}"


def _folder() -> Path:
    """A folder that only this user can write to, though its name can be guessed."""
    folder = Path(tempfile.gettempdir()) / f"turnkeeper-analyst-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def _build(file: Path) -> None:
    """Complete or not there at all: built aside and renamed. Two that build at once make the same file."""
    descriptor, draft = tempfile.mkstemp(suffix=".draft", dir=file.parent)
    os.close(descriptor)
    try:
        with contextlib.closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # a file that a crash leaves half-written is never renamed
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO airports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _airports())
            connection.executemany("INSERT INTO metro_areas VALUES (?, ?, ?, ?, ?)", _metro_areas())
            connection.executescript(_INDEXES)
            connection.commit()
        Path(draft).replace(file)
    finally:
        Path(draft).unlink(missing_ok=True)


def _airports() -> Iterator[tuple[object, ...]]:
    for row in _rows("airports.csv"):
        texts = [row[name] or None for name in ("icao", "iata", "name", "city", "subd", "country")]
        yield *texts, round(float(row["elevation"])), float(row["lat"]), float(row["lon"]), row["tz"] or None


def _metro_areas() -> Iterator[tuple[object, ...]]:
    for row in _rows("iata_macs.csv"):
        yield tuple(row[name] for name in ("Country", "City Code", "City Name", "Airport Code", "Airport Name"))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (importlib.resources.files("airportsdata") / name).open(encoding="utf-8") as source:
        yield from csv.DictReader(source)
