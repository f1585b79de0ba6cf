"""What is said in the demo. The stand-in model is told what to answer by directives; Claude is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    #: How long the turn Lambda may work: short, so that the long task has to move.
    turn_seconds: int
    first_agent: str
    first: str
    #: Claude's pace is its own: where it matters, the demo says that a turn is to stay on Lambda.
    first_placement: str
    long_agent: str
    long: str
    #: The conversation that goes on in part 4: the ``first`` one or the ``long`` one.
    goes_on_with: str
    next: str
    job_agent: str
    job: str
    capped: str
    #: For the agent on the Claude Agent SDK, where that is installed.
    program: str


def said(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a reader wants it: what the user says, without what it tells the stand-in to answer."""
    if event["type"] != "user":
        return event
    content = [
        {**block, "text": block["text"].partition("[[")[0].strip()} if block.get("type") == "text" else block
        for block in event["content"]
    ]
    return {**event, "content": content}


def _tool(name: str, **arguments: Any) -> str:
    return f"[[tool {name} {json.dumps(arguments)}]]"


def _plan(*states: str) -> str:
    titles = ("Invoices of Aurora Bakery", "Invoices of Brightwater Clinic", "Say who owes what")
    items = [{"title": title, "state": state} for title, state in zip(titles, states, strict=True)]
    return _tool("update_plan", goal="Find out who owes what", items=items)


_MAX_AIRPORTS = """\
SELECT country, count(*) AS airports FROM airports WHERE iata IS NOT NULL
GROUP BY country ORDER BY airports DESC LIMIT 3"""

_MENDED = '''\
"""What an order costs."""


def total(prices: list[int], discount_percent: int = 0) -> int:
    """In cents, rounded down in the customer's favour."""
    return sum(prices) * (100 - discount_percent) // 100
'''

SCRIPTED = Script(
    turn_seconds=10,
    first_agent="support",
    first="Is INV-1001 paid, and whose is it? "
    + '[[tool get_invoice {"invoice_id": "INV-1001"} & tool get_customer {"customer_id": "CUS-100"}]]'
    + "[[say INV-1001 of Aurora Bakery over $49.00 is paid.]]",
    first_placement="auto",
    long_agent="support",
    long="Go through the customers one by one and tell me who owes what. Take your time. "
    + f"[[sleep 3]] {_plan('in_progress', 'pending', 'pending')}"
    + f"[[sleep 3]] {_tool('list_invoices', customer_id='CUS-100')}"
    + f"[[sleep 3]] {_tool('list_invoices', customer_id='CUS-101', status='overdue')}"
    + f"[[sleep 2]] {_plan('done', 'done', 'in_progress')}"
    + "[[say Aurora Bakery owes $49.00, Brightwater Clinic $598.00, of which $299.00 is overdue.]]",
    goes_on_with="long",
    next="And which of the two should I call first? [[say Brightwater Clinic: its September invoice is overdue.]]",
    job_agent="analyst",
    job="Which countries have the most airports with an IATA code? "
    + _tool("sql_query", query=_MAX_AIRPORTS)
    + _tool("end_task", status="completed", summary="The United States lead by far; the rows have the numbers."),
    program="The tests of the repository fail. Find out why, and propose a patch. "
    + _tool("mcp__turnkeeper__get_repository")
    + _tool("mcp__turnkeeper__propose_patch", title="Take a discount off", changed={"pricing.py": _MENDED})
    + "[[say A discount was added instead of taken off; the patch subtracts it.]]",
    capped='What about INV-1006? [[tool get_invoice {"invoice_id": "INV-1006"}]][[say INV-1006 is overdue.]]',
)

LIVE = Script(
    turn_seconds=8,
    first_agent="support",
    first="Look up invoice INV-1001 and its customer, and tell me in one sentence whether it is paid.",
    first_placement="interactive",
    long_agent="analyst",
    long=(
        "Answer three questions one after another, each with queries of its own, and keep your plan up to date after "
        "each. 1. Which five countries have the most airports with an IATA code? 2. For each of these five, which is "
        "its highest airport with an IATA code? 3. Which time zone has the most airports with an IATA code, and which "
        "of them is the northernmost? Then end the task with the findings."
    ),
    goes_on_with="first",
    next="And what else did this customer have to pay since? One sentence, please.",
    job_agent="analyst",
    job="Which three countries have the most airports with an IATA code? Two steps at most, then end the task.",
    program="The tests of the repository fail. Find out why, and propose a patch.",
    capped="Is invoice INV-1006 paid? One sentence, please.",
)
