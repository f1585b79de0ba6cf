"""Tables for people. Whatever comes from outside is put in as text, never as markup."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from turnkeeper_local.cli.called import as_called
from turnkeeper_local.cli.text import age, arguments, clock, moment, plain, recent, seconds, short, usd

if TYPE_CHECKING:
    from turnkeeper_local.cli.audits import Chain

Document = Mapping[str, Any]

#: Characters of a message that are shown.
_SHOWN_BODY = 4_000
#: Of a dead letter's id: enough to name it by.
_SHORT_ID = 8


def table_of(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in columns:
        # What has to be copied is never cut.
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column in {"session", *right})
    return table


def add_row(table: Table, cells: Iterable[object], *, style: str | None = None) -> None:
    table.add_row(*(Text(plain(str(cell))) for cell in cells), style=style)


def _facts(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in pairs:
        table.add_row(Text(plain(name)), Text(plain(value)))
    return table


def sessions_table(sessions: Sequence[Document]) -> Table:
    scored = any(session.get("worst_score") for session in sessions)
    more = ("worst score", "version") if scored else ()
    table = table_of("session", "agent", "status", "steps", "cost", "updated", *more, right=("steps", "cost"))
    for session in sessions:
        cells = [
            *(session["session_id"], session["agent"], _status(session), session.get("steps", "")),
            *(usd(session.get("cost_usd")), recent(session.get("updated_at"))),
            *(_worst(session.get("worst_score")) if scored else ()),
        ]
        add_row(table, cells)
    return table


def _worst(score: Document | None) -> tuple[str, str]:
    if score is None:
        return "", ""
    return f"{score['name']} {score['value']:.3g}, turn {score['turn']}", str(score["version"] or "")[:12]


def _status(session: Document) -> str:
    """With the reason, where the status does not say it already."""
    reason = (session.get("stop") or {}).get("reason")
    return (
        str(session["status"])
        if reason in {None, "end_turn", "end_task", "cancelled"}
        else f"{session['status']}: {reason}"
    )


def session_table(session: Document) -> Table:
    limits = session.get("limits") or {}
    pairs = [
        ("session", session["session_id"]),
        ("agent", f"{session['agent']}, {session.get('placement')}, last on {session.get('runner') or 'nothing yet'}"),
        ("tenant, user", f"{session.get('tenant_id')}, {session.get('user_id')}"),
        ("status", _status(session)),
        ("cost", f"{usd(session.get('cost_usd'))} of {usd(limits.get('task_usd'))} in {session.get('steps')} steps"),
        ("iterations", f"{session.get('iterations')} of {limits.get('max_iterations')} in this turn"),
        ("tools", ", ".join(session.get("granted_tools") or ()) or "none"),
        ("created", moment(session.get("created_at"))),
    ]
    if plan := session.get("plan"):
        pairs.append(("plan", plan_text(plan)))
    if flags := session.get("flags"):
        pairs.append(
            ("flags", f"{len(flags)} results look as if they carried instructions, see entries " + _seqs(flags))
        )
    if session.get("scores"):
        turn = session["scores"][-1]["turn"]
        latest = [score for score in session["scores"] if score["turn"] == turn]
        told = ", ".join(f"{score['name']} {score['value']:.2f}{_mark(score['passed'])}" for score in latest)
        pairs.append((f"scores of turn {turn}", told))
        pairs.extend((score["name"], short(score["reason"], 200)) for score in latest if score["passed"] is False)
    return _facts(pairs)


def _mark(passed: bool | None) -> str:
    return "" if passed is None else " ✓" if passed else " ✗"


def plan_text(plan: Document) -> str:
    marks = {"done": "✓", "in_progress": "▸", "dropped": "✗"}
    items = (f"{marks.get(item['state'], '·')} {short(item['title'])}" for item in plan["items"])
    return "\n".join([short(plan["goal"]), *items])


def _seqs(flags: Sequence[Document]) -> str:
    return ", ".join(str(flag["seq"]) for flag in flags)


def tools_table(events: Sequence[Document]) -> Table:
    """How often each tool was called, how that went, and how long it took."""
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    millis: Counter[str] = Counter()
    for event in events:
        for result in event.get("results", ()):
            name = str(result.get("tool"))
            outcomes[name][str(result.get("outcome"))] += 1
            millis[name] += int(result.get("duration_ms") or 0)
    table = table_of("tool", "calls", "outcomes", "time", right=("calls", "time"))
    for name, counts in outcomes.items():
        shares = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        table.add_row(Text(plain(name)), str(counts.total()), shares, seconds(millis[name]))
    return table


def spend_table(scopes: Sequence[Document], title: str) -> Group:
    table = table_of("scope", "spent", "reserved", "cap", "resets", right=("spent", "reserved", "cap"))
    for scope in scopes:
        amounts = (usd(scope["spent_usd"]), usd(scope["reserved_usd"]), usd(scope["cap_usd"]))
        table.add_row(_scope(scope["scope"], scope.get("agent")), *amounts, moment(scope["resets_at"]))
    return Group(Text(plain(title), style="bold"), table)


def _scope(name: str, agent: str | None = None) -> Text:
    return Text(plain(f"{name} {agent}" if agent else name))


def tenant_table(tenant: Document) -> Group:
    table = table_of("scope", "cap", "from", right=("cap",))
    for scope, cap in tenant["caps"].items():
        by_agent = cap if isinstance(cap, Mapping) else {None: cap}
        for agent, amount in by_agent.items():
            source = "set for the tenant" if scope in tenant["overrides"] else "plan"
            table.add_row(_scope(scope, agent), usd(amount), source)
    state = ("paused", "bold red") if tenant["paused"] else ("active", "green")
    title = Text.assemble(
        (plain(tenant["tenant_id"]), "bold"), f"  plan {plain(tenant['plan'])}  {tenant['timezone']}  ", state
    )
    return Group(title, table)


def dead_letters_table(letters: Sequence[Document]) -> Group:
    """A line for each, by the beginning of its id; below, sessions that there are, and what to do about each code."""
    table = table_of("id", "error_code", "agent", "tenant", "age", "receives", "still", right=("age", "receives"))
    for column in table.columns[:2]:
        column.no_wrap = True
    for letter in letters:
        cells = [
            *(letter["id"][:_SHORT_ID], letter["error_code"], letter["agent"] or "-", letter["tenant_id"] or "-"),
            *(age(letter["age_seconds"]), letter["receives"] or "-", "yes" if letter["still"] else ""),
        ]
        add_row(table, cells)
    begun = [letter for letter in letters if letter["session_id"]]
    sessions = [(one["id"][:_SHORT_ID], f"session {one['session_id']}, {one['session_status']}") for one in begun]
    todo = {letter["error_code"]: letter["what_now"].replace(letter["id"], "ID") for letter in letters}
    return Group(table, _facts([*sessions, *((code, as_called(what)) for code, what in todo.items())]))


def dead_letter_table(letter: Document) -> Group:
    session = f"{letter['session_id']}, {letter['session_status']}" if letter["session_id"] else "none"
    facts = _facts(
        [
            ("id", letter["id"]),
            ("error_code", letter["error_code"]),
            ("detail", letter["detail"] or "it was received, and nobody was ever done with it"),
            ("agent", letter["agent"] or "-"),
            ("tenant, user", f"{letter['tenant_id'] or '-'}, {letter['user_id'] or '-'}"),
            ("job", letter["job_id"] or "-"),
            ("session", session),
            ("since", f"{moment(letter['sent_at'])}, {age(letter['age_seconds'])} ago"),
            ("receives", str(letter["receives"] or "-")),
            ("still", letter["still"] or "nothing is known to be in its way any more"),
            ("what now", as_called(letter["what_now"])),
        ]
    )
    return Group(facts, Text(), Text(plain(letter["body"][:_SHOWN_BODY])))


def audit_table(records: Sequence[Document]) -> Table:
    table = table_of("#", "at", "what", "who", "outcome", "took", "detail", right=("#", "took"))
    for record in records:
        what = record.get("tool") or record["kind"]
        detail = arguments(record.get("arguments_redacted") or record.get("detail") or {}, 100)
        who = record.get("actor") or record.get("user_id") or ""
        took = seconds(record["duration_ms"]) if "duration_ms" in record else ""
        cells = [str(record["seq"]), clock(str(record["at"])), what, who, record.get("outcome", ""), took, detail]
        add_row(table, cells)
    return table


def token_facts(token: Document) -> Table:
    url = token.get("gateway_url") or "the gateway of the deployment"
    return _facts(
        [
            ("id", token["id"]),
            ("for", f"{token['tenant_id']}, {token['user_id']}" + (f", {token['label']}" if token["label"] else "")),
            ("may spend", f"{usd(token['task_usd'])}, and what the caps of tenant and user leave"),
            ("valid until", moment(token["expires_at"]) if token["expires_at"] else "it is revoked"),
            ("use it with", f"ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=<the token above>"),
        ]
    )


def tokens_table(tokens: Sequence[Document]) -> Table:
    columns = ("id", "tenant", "user", "label", "status", "spent", "reserved", "cap", "calls", "valid until")
    table = table_of(*columns, right=("id", "spent", "reserved", "cap", "calls"))
    for token in tokens:
        cells = [
            *(token["id"], token["tenant_id"], token["user_id"], token["label"] or "", token["status"]),
            *(usd(token["spent_usd"]), usd(token["reserved_usd"]), usd(token["task_usd"]), token["calls"]),
            moment(token["expires_at"]) if token["expires_at"] else "",
        ]
        add_row(table, cells)
    return table


def deliveries_table(deliveries: Sequence[Document]) -> Table:
    table = table_of("id", "to", "turn", "status", "state", "attempts", "answer", "next", right=("turn", "attempts"))
    for one in deliveries:
        answer = " ".join(str(part) for part in (one["last_status"], one["last_answer"]) if part)
        cells = [one["id"], one["to"] or "", one["turn"], one["status"], one["state"], one["attempts"], answer]
        add_row(table, [*cells, moment(one["next_at"]) if one["state"] == "pending" else ""])
    return table


def chains_report(chains: Sequence[Chain], tenant_id: str) -> Group:
    lines = []
    for chain in chains:
        name = chain.session_id or f"tenant {tenant_id}"
        mark = ("✗ ", "bold red") if chain.problems else ("✓ ", "green")
        lines.append(Text.assemble(mark, plain(name), (f"  {_records(len(chain.records))}", "dim")))
        lines.extend(Text(f"    {plain(str(problem))}", style="red") for problem in chain.problems)
    broken = sum(bool(chain.problems) for chain in chains)
    total = sum(len(chain.records) for chain in chains)
    counted = f"{len(chains)} {'chain' if len(chains) == 1 else 'chains'}"
    verdict = f"broken: {broken} of {counted}" if broken else f"intact: {counted}, {_records(total)}"
    lines.append(Text(verdict, style="bold red" if broken else "bold green"))
    return Group(*lines)


def _records(count: int) -> str:
    return f"{count} {'record' if count == 1 else 'records'}"
