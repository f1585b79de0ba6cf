from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agents.conftest import call
from turnkeeper import Agent, ToolDenied, ToolError
from turnkeeper.runtime.catalog import Catalog


@pytest.fixture
def analyst(catalog: Catalog) -> Agent:
    return catalog.get("analyst")


def query(agent: Agent, sql: str) -> dict[str, Any]:
    answer = call(agent, "sql_query", query=sql)
    return dict(answer) if isinstance(answer, dict) else dict(json.loads(answer))


def test_the_airports_of_the_world_are_there(analyst: Agent) -> None:
    counted = query(analyst, "SELECT count(*) AS airports, count(DISTINCT country) AS countries FROM airports")
    airports, countries = counted["rows"][0]
    assert airports > 20_000
    assert countries > 200


def test_columns_have_their_types(analyst: Agent) -> None:
    sql = "SELECT name, city, country, elevation_ft, round(latitude, 1), timezone FROM airports WHERE iata = 'LPB'"
    (row,) = query(analyst, sql)["rows"]
    assert row[1:3] == ["La Paz / El Alto", "BO"]
    assert isinstance(row[3], int)
    assert row[3] > 13_000
    assert row[4:] == [-16.5, "America/La_Paz"]


def test_what_has_no_code_has_null(analyst: Agent) -> None:
    (row,) = query(analyst, "SELECT count(*) FROM airports WHERE iata IS NULL AND icao IS NOT NULL")["rows"]
    assert row[0] > 1_000
    assert query(analyst, "SELECT count(*) FROM airports WHERE iata = ''")["rows"] == [[0]]


def test_metropolitan_areas_join_with_airports(analyst: Agent) -> None:
    sql = "SELECT a.iata FROM metro_areas m JOIN airports a ON a.iata = m.iata WHERE m.city_code = 'LON' ORDER BY 1"
    assert ["LHR"] in query(analyst, sql)["rows"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM airports",
        "SELECT * FROM sqlite_master",
        "ATTACH 'x.db' AS x",
        "SELECT 1; SELECT 2",
        "PRAGMA table_info(airports)",
    ],
)
def test_it_reads_what_is_listed_and_nothing_else(analyst: Agent, sql: str) -> None:
    with pytest.raises((ToolDenied, ToolError)):
        query(analyst, sql)


def test_the_database_is_built_once_also_by_many_at_once(analyst: Agent, temporary: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: query(analyst, "SELECT count(*) FROM airports")["rows"], range(4)))
    assert len({answer[0][0] for answer in answers}) == 1
    (folder,) = temporary.iterdir()
    assert [file.suffix for file in folder.iterdir()] == [".db"]
    assert folder.stat().st_mode & 0o077 == 0


def test_it_says_itself_when_it_is_done(analyst: Agent) -> None:
    assert analyst.done == "end_task"
    assert analyst.placement == "auto"
    assert "update_plan" in [tool.name for tool in analyst.all_tools()]
