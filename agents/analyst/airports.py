"""A public data set as an SQLite file: the airports of the world, from the package ``airportsdata``."""

from __future__ import annotations

import csv
import importlib.resources
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version

from .._shared.databases import built

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
    name = f"airports-{version('airportsdata')}-1.db"
    return f"sqlite:///{built('analyst', name, _fill)}"


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # what a crash leaves half-written never gets its name
    connection.executescript(_SCHEMA)
    connection.executemany("INSERT INTO airports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _airports())
    connection.executemany("INSERT INTO metro_areas VALUES (?, ?, ?, ?, ?)", _metro_areas())
    connection.executescript(_INDEXES)


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
