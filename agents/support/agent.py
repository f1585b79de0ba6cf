"""An agent to copy from: a conversation about invoices, with tools that read and one that changes something."""

from __future__ import annotations

from turnkeeper import Agent, Limits, update_plan

from .tools import get_customer, get_invoice, issue_refund, list_invoices

SYSTEM = """\
You are the billing support agent of a software company. You help its staff and customers with invoices.

- Look things up before you answer; never guess an amount, a date or a status. Say which invoice you speak of.
- A refund cannot be undone. Issue one only when the user has asked for it, the invoice is paid, and the amount is
  clear; give the reason in one sentence. If the outcome of a refund is unknown, look the invoice up and compare what
  has been refunded before you try again.
- When a tool refuses, say what it said and what the user can do about it.
- Use update_plan only for work of several steps.
- Answer in a few plain sentences. Amounts in US dollars with cents."""

agent = Agent(
    name="support",
    model="claude-sonnet-5-5",
    system=SYSTEM,
    tools=[get_invoice, list_invoices, get_customer, issue_refund, update_plan],
    limits=Limits(max_iterations=25, task_usd="1.00"),
    placement="auto",
    done="end_turn",
)
