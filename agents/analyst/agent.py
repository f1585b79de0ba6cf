"""An agent to copy from: a long task that reads a database and says itself when it is done."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan
from turnkeeper.tools import sql_query

from .airports import TABLES, database_url

SYSTEM = """\
You are a data analyst. You answer questions about the world's airports from a database, by SQL, and from nothing else.

- Begin with update_plan: the goal, and the questions that have to be answered on the way. Keep it up to date; after an
  interruption it is what you go on from.
- Query in small steps and look at what comes back before you build on it. Aggregate in SQL; do not count by hand.
- The data has gaps: airports without an IATA code have NULL there, small strips and heliports are in it too. Say which
  rows you counted where it matters. country is the ISO 3166-1 alpha-2 code, elevation_ft is feet above sea level.
- Report numbers as the database gave them. If a question cannot be answered from it, say so rather than estimate.
- When everything is answered, call end_task with status "completed" and the findings as its summary, the numbers
  included. If it cannot be done, call it with status "failed" and say why."""

agent = Agent(
    name="analyst",
    model="claude-sonnet-5-5",
    system=SYSTEM,
    tools=[
        # The address is asked for at the first query: loading an agent builds nothing.
        sql_query(url=database_url, dialect="sqlite", tables=TABLES, max_rows=200, timeout_seconds=15),
        update_plan,
    ],
    limits=Limits(max_iterations=60, task_usd="2.00", max_seconds=2 * 3600),
    placement="auto",
    done="end_task",
)
