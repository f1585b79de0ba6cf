"""What the invariants of the load see: each finds a fault that is planted in a sound record, and none without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.outside import SESSION_FIELDS, TOKENS, Document
from tests.load.evidence import Books, Evidence
from tests.load.invariants import INVARIANTS, judged
from tests.load.memory import Curve, growth
from tests.load.record import Input, Record

TENANT = "soak-x-plain"


def session(session_id: str, status: str = "idle", reason: str = "end_turn", **more: Any) -> Document:
    return {
        **dict.fromkeys(SESSION_FIELDS),
        "session_id": session_id,
        "tenant_id": TENANT,
        "user_id": "u0",
        "status": status,
        "stop": None if status == "erased" else {"reason": reason, "detail": {}},
        "continuation_token": "token" if status == "stopped" else None,
        "lease_expires_at": None,
        "updated_at": "2026-11-26T03:00:00.000Z",
        "runner": "lambda",
        "steps": 2,
        "usage": {**dict.fromkeys(TOKENS, 0), "input_tokens": 6},
        "cost_usd": "0.02",
        "last_seq": 5,
        **more,
    }


def transcript(session_id: str, mark: str, status: str = "idle", reason: str = "end_turn") -> list[Document]:
    """Asked to pay and to stamp, did both, and said so."""
    answer = {"type": "assistant", "cost_usd": "0.01", "model": "m", "stop_reason": "x", "duration_ms": 1, "at": "t"}
    asked = [{"type": "tool_use", "id": f"{tool}-{session_id}", "name": tool, "input": {}} for tool in ("pay", "stamp")]
    told = {"is_error": False, "outcome": "ok", "duration_ms": 1, "content": []}
    entries = [
        {"type": "user", "content": [{"type": "text", "text": f"do it ({mark})"}]},
        {**answer, "content": asked, "usage": {"input_tokens": 3}},
        {"type": "tool_results", "results": [{**told, "tool_use_id": one["id"], "tool": one["name"]} for one in asked]},
        {**answer, "content": [{"type": "text", "text": "done"}], "usage": {"input_tokens": 3}},
        {
            "type": "status",
            "status": status,
            "stop": {"reason": reason, "detail": {}},
            "at": "2026-11-26T03:00:00.000Z",
        },
    ]
    return [{"seq": seq, **entry} for seq, entry in enumerate(entries, 1)]


def sound() -> Evidence:
    """Three sessions: one that answered, one that stopped at a cap, one that was erased."""
    record = Record()
    names = {"ses_a": "idle", "ses_b": "stopped", "ses_c": "erased"}
    record.inputs = [Input("turns", TENANT, f"m{name}", name, True) for name in names]
    record.ended = {"ses_c": "erased"}
    record.nonsense = {"no job": "not_json"}
    scope = {"spent_usd": "0.06", "reserved_usd": "0", "cap_usd": "1.00"}
    scopes = {name: {"scope": name, **scope} for name in ("user_daily", "user_monthly", "tenant_monthly")}
    chains = [{"session_id": name, "records": 3, "problems": []} for name in (None, *names)]
    total = {"total_usd": "0.06", "reserved_usd": "0"}
    return Evidence(
        record,
        sessions={
            "ses_a": session("ses_a"),
            "ses_b": session("ses_b", "stopped", "cost_cap"),
            "ses_c": session("ses_c", "erased"),
        },
        events={
            "ses_a": transcript("ses_a", "mses_a"),
            "ses_b": transcript("ses_b", "mses_b", "stopped", "cost_cap"),
            "ses_c": [{"seq": 1, "type": "user", "content": []}, {"seq": 2, "type": "status", "status": "erased"}],
        },
        books={TENANT: Books({"u0": scopes}, {"differences": [], "total": total}, {"ok": True, "chains": chains})},
        once=[f"{name} pay-{name} what" for name in names],
        keyed=[f"{name} stamp-{name} key what" for name in names],
        dead=[("no job", "not_json")],
        queue=(0, 0),
        curves=[Curve("worker", 1, [(at, 100 + at % 7) for at in range(0, 600, 3)])],
        measured=("worker",),
    )


def grow(seen: Evidence) -> None:
    seen.curves = [Curve("worker", 1, [(at, 100 + at / 10) for at in range(0, 600, 3)])]


def ends(event: Document, reason: str) -> None:
    event["stop"] = {"reason": reason, "detail": {}}


#: Faults by the invariants that they break, all of them.
PLANTS: list[tuple[str, Callable[[Evidence], Any], set[str]]] = [
    (
        "a session never came to rest",
        lambda seen: seen.sessions["ses_a"].update(status="running", stop=None, continuation_token="token"),
        {"every session rests"},
    ),
    (
        "an accepted input is in no session",
        lambda seen: seen.record.inputs.append(Input("jobs", TENANT, "mlost", "ses_d", True)),
        {"every accepted input stands once"},
    ),
    (
        "an accepted input is missing from its session",
        lambda seen: seen.record.inputs.append(Input("turns", TENANT, "mlost", "ses_a", True)),
        {"every accepted input stands once"},
    ),
    (
        "an input was written twice",
        lambda seen: seen.events["ses_a"][0]["content"].append({"type": "text", "text": " (mses_a)"}),
        {"every accepted input stands once"},
    ),
    (
        "an input was refused and written all the same",
        lambda seen: (
            setattr(seen.record.inputs[0], "accepted", False),
            setattr(seen.record.inputs[0], "refused", True),
        ),
        {"every accepted input stands once"},
    ),
    (
        "a call that was refused began a session",
        lambda seen: seen.record.inputs.__setitem__(2, Input("turns", TENANT, "mno", None, False, refused=True)),
        {"every session was begun by somebody"},
    ),
    (
        "nothing was said",
        lambda seen: [setattr(said, "accepted", False) for said in seen.record.inputs],
        {"every accepted input stands once"},
    ),
    (
        "the ledger could not be read",
        lambda seen: setattr(seen.books[TENANT], "report", {"code": "unavailable"}),
        {"the ledger is the counters"},
    ),
    (
        "a twin began a session of its own",
        lambda seen: seen.record.inputs.pop(2),
        {"every session was begun by somebody"},
    ),
    (
        "an input was never answered",
        lambda seen: seen.events["ses_a"][-1].pop("stop"),
        {"every input has an answer or a typed stop"},
    ),
    (
        "a stop has no type",
        lambda seen: ends(seen.events["ses_a"][-1], "tired"),
        {"every input has an answer or a typed stop"},
    ),
    ("seq has a gap", lambda seen: seen.events["ses_a"][-1].update(seq=6), {"transcripts are whole"}),
    (
        "a call has two results",
        lambda seen: seen.events["ses_a"][2]["results"].append(seen.events["ses_a"][2]["results"][0]),
        {"transcripts are whole"},
    ),
    (
        "the head costs more than its entries",
        lambda seen: seen.events["ses_a"][1].update(cost_usd="0.009"),
        {"transcripts are whole"},
    ),
    (
        "the kit failed",
        lambda seen: ends(seen.events["ses_b"][-1], "internal_error"),
        {"no turn ends by an error of the kits own"},
    ),
    ("a call was a 500", lambda seen: seen.record.failures.append("turns: 500"), {"every call is answered"}),
    ("the worker logged an error", lambda seen: seen.logged.append("worker: ERROR"), {"no error is logged"}),
    (
        "an erased session is back",
        lambda seen: (
            seen.sessions["ses_c"].update(session("ses_c")),
            seen.events.update(ses_c=transcript("ses_c", "mses_c")),
        ),
        {"what has ended stays so"},
    ),
    (
        "a payment was made twice",
        lambda seen: seen.once.append("ses_a pay-ses_a what"),
        {"once effects happen at most once"},
    ),
    (
        "a repeated call had another key",
        lambda seen: seen.keyed.append("ses_a stamp-ses_a other what"),
        {"idempotent calls keep their key"},
    ),
    ("what is told was not done", lambda seen: seen.once.pop(0), {"what is told as done was done"}),
    (
        "what was done is not told",
        lambda seen: seen.once.append("ses_a pay-other what"),
        {"what is told as done was done"},
    ),
    (
        "what was done is told as denied",
        lambda seen: seen.events["ses_a"][2]["results"][0].update(outcome="denied", is_error=True),
        {"what is told as done was done"},
    ),
    (
        "money is reserved at rest",
        lambda seen: seen.books[TENANT].scopes["u0"]["user_daily"].update(reserved_usd="0.01"),
        {"counters are the sum of sessions"},
    ),
    (
        "a counter lost a call",
        lambda seen: seen.books[TENANT].scopes["u0"]["tenant_monthly"].update(spent_usd="0.05"),
        {"counters are the sum of sessions"},
    ),
    (
        "the report found a difference",
        lambda seen: seen.books[TENANT].report["differences"].append({"counter": "u0"}),
        {"the ledger is the counters"},
    ),
    (
        "the ledger lost a call",
        lambda seen: seen.books[TENANT].report["total"].update(total_usd="0.05"),
        {"the ledger is the counters"},
    ),
    (
        "a cap was seen to be passed",
        lambda seen: seen.passed.append("user_daily: 1.01 of 1.00"),
        {"no cap is passed"},
    ),
    (
        "a cap is passed at the end",
        lambda seen: seen.books[TENANT].scopes["u0"]["user_daily"].update(cap_usd="0.05"),
        {"no cap is passed"},
    ),
    (
        "an audit record was altered",
        lambda seen: seen.books[TENANT].audit["chains"][1]["problems"].append("altered"),
        {"audit chains verify"},
    ),
    ("an audit chain is missing", lambda seen: seen.books[TENANT].audit["chains"].pop(), {"audit chains verify"}),
    (
        "a job was put aside that could work",
        lambda seen: seen.dead.append(("a job", "")),
        {"dead letters are those that were meant"},
    ),
    (
        "nonsense vanished",
        lambda seen: seen.dead.clear(),
        {"dead letters are those that were meant"},
    ),
    (
        "a dead letter has another reason",
        lambda seen: seen.dead.__setitem__(0, ("no job", "internal_error")),
        {"dead letters are those that were meant"},
    ),
    ("a message goes round", lambda seen: setattr(seen, "queue", (0, 1)), {"the queue is empty"}),
    ("the worker grows", grow, {"memory does not grow"}),
    ("no worker lived long enough", lambda seen: seen.curves.clear(), {"memory does not grow"}),
]


def broken(seen: Evidence) -> set[str]:
    return {name for name, lines in judged(seen).items() if lines}


def test_a_sound_run_breaks_nothing() -> None:
    assert judged(sound()) == {name: [] for name in judged(sound())}


@pytest.mark.parametrize(("plant", "breaks"), [plant[1:] for plant in PLANTS], ids=[plant[0] for plant in PLANTS])
def test_planted_faults_are_found(plant: Callable[[Evidence], Any], breaks: set[str]) -> None:
    seen = sound()
    plant(seen)
    assert broken(seen) == breaks


def test_each_invariant_has_a_planted_fault() -> None:
    names = {invariant.__name__.replace("_", " ") for invariant in INVARIANTS}
    assert set.union(*(breaks for _, _, breaks in PLANTS)) == names


def test_lost_answers_explain_sessions_and_inputs_that_nobody_knows_of() -> None:
    seen = sound()
    seen.record.inputs[0] = Input("turns", TENANT, "mses_a", None, False)
    seen.record.inputs.append(Input("turns", TENANT, "mlost", None, False))
    assert broken(seen) == set()


def test_growth_is_told_by_the_slope_after_the_warm_up() -> None:
    """A process that loads for a minute does not grow; one that has not lived long says nothing."""
    loads = Curve("observer", 1, [(at, min(150, 50 + 2 * at)) for at in range(0, 400, 5)])
    found = growth(loads)
    assert found is not None
    assert (round(found.percent, 6), found.first_quarter_mib, found.last_quarter_mib) == (0, 150, 150)
    leaks = growth(Curve("observer", 1, [(at, 100 + at / 60) for at in range(0, 660, 5)]))
    assert leaks is not None
    assert leaks.mib_per_minute == pytest.approx(1)
    assert leaks.percent == pytest.approx(10, rel=0.05)
    assert growth(Curve("worker", 1, [(at, 100.0) for at in range(0, 140, 5)])) is None


def test_days_and_months_that_ended_in_the_middle_are_no_fault() -> None:
    seen = sound()
    seen.books[TENANT].scopes["u0"]["user_daily"].update(spent_usd="0.01")
    assert broken(seen) == {"counters are the sum of sessions"}
    seen.same_day = False
    assert broken(seen) == set()
    seen.books[TENANT].scopes["u0"]["user_monthly"].update(spent_usd="0.01")
    assert broken(seen) == {"counters are the sum of sessions"}
    seen.same_month = False
    assert broken(seen) == set()
