"""What there is to see of a run once it is over, from outside: by API, command line and queues, and tools' effects."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx2

from tests.e2e.outside import RESTING, Caller, Document, good, lines
from tests.load.memory import Curve
from tests.load.record import Record
from tests.load.target import Target
from tests.support.meanwhile import meanwhile
from turnkeeper_local.kit import Home

TENANTS = ("plain", "small", "paused")
_LOOK_SECONDS = 2.0


@dataclass
class Books:
    """Of one tenant."""

    #: By user, by name of the scope.
    scopes: dict[str, dict[str, Document]]
    #: `turnkeeper spend report`, `turnkeeper audit verify`.
    report: Document
    audit: Document


@dataclass
class Evidence:
    """All that the invariants are held against."""

    record: Record
    #: By id, of all tenants of the run, with their transcripts.
    sessions: dict[str, Document] = field(default_factory=dict)
    events: dict[str, list[Document]] = field(default_factory=dict)
    books: dict[str, Books] = field(default_factory=dict)
    #: Lines that `once` and `idempotent` tools wrote.
    once: list[str] = field(default_factory=list)
    keyed: list[str] = field(default_factory=list)
    #: Bodies on the dead-letter queue, with their reasons.
    dead: list[tuple[str, str]] = field(default_factory=list)
    #: Messages that wait, and that are in somebody's hands; None where the queue is not the run's own.
    queue: tuple[int, int] | None = None
    #: Scopes that were seen above their cap, with what was reserved.
    passed: list[str] = field(default_factory=list)
    #: What the parts of a kit of the run's own logged as errors.
    logged: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    growth_bound_percent: float = 15.0
    #: Processes that lived long enough, if all went well, to be measured.
    measured: tuple[str, ...] = ()
    #: Whether the run began and ended in the same day and month (UTC), so that these counters hold all of it.
    same_day: bool = True
    same_month: bool = True
    #: Why not everything was seen: then nothing is judged by what was.
    unseen: str | None = None


@contextlib.contextmanager
def watching_caps(callers: Sequence[Caller]) -> Iterator[list[str]]:
    """Scopes of users whose caps trip, looked at in turn all the time: those that were seen above them. Where no look
    was answered, that."""
    passed: list[str] = []
    turn, seen = itertools.cycle(callers), 0

    def look() -> None:
        nonlocal seen
        with contextlib.suppress(httpx2.TransportError):  # It is looked again.
            response = next(turn).get("/v1/spend")
            if response.status_code == 200:
                seen += 1
                passed.extend(filter(None, map(over, response.json()["scopes"])))

    try:
        with meanwhile(look, lambda: _LOOK_SECONDS):
            yield passed
    finally:
        if not seen:
            passed.append("no look at the caps was answered")


def over(scope: Document) -> str | None:
    """What is wrong where more was spent or set aside than the cap admits."""
    if scope["cap_usd"] is None:
        return None
    taken = Decimal(scope["spent_usd"]) + Decimal(scope["reserved_usd"])
    return f"{scope['scope']}: {taken} of {scope['cap_usd']}" if taken > Decimal(scope["cap_usd"]) else None


def listed(caller: Caller) -> list[Document]:
    """All sessions of a tenant, as an admin of it sees them."""
    found: list[Document] = []
    cursor: dict[str, str] = {}
    while True:
        page = good(caller.get("/v1/sessions", limit=100, **cursor))
        found += page["sessions"]
        if not page["next_cursor"]:
            return found
        cursor = {"cursor": page["next_cursor"]}


def at_rest(target: Target, record: Record) -> bool:
    """Every session rests, and every job has become one."""
    sessions = [session for name in TENANTS for session in listed(target.caller(name, "operator"))]
    begun = {each.session_id for each in record.inputs if each.accepted}
    return begun <= {each["session_id"] for each in sessions} and all(each["status"] in RESTING for each in sessions)


def wait_for_rest(target: Target, record: Record, *, within_seconds: float) -> float:
    """How long it took; whether it came is judged by what is seen then."""
    began = time.monotonic()
    while time.monotonic() < began + within_seconds:
        with contextlib.suppress(AssertionError, httpx2.TransportError):  # An API that fails now is asked again.
            if _quiet(target, record):
                break
        time.sleep(1)
    return time.monotonic() - began


def _quiet(target: Target, record: Record) -> bool:
    return at_rest(target, record) and (not target.own or target.stack.depths(target.stack.kit.queue_url) == (0, 0))


def collect(target: Target, record: Record, users: int, began: date, say: Callable[[str], None]) -> Evidence:
    """Everything, looked at once; why not, where something could not be looked at."""
    today = datetime.now(UTC).date()
    found = Evidence(record, same_day=began == today, same_month=began.month == today.month)
    try:
        _collect(found, target, users, began, say)
    except Exception as error:  # noqa: BLE001 - it is told
        found.unseen = f"{type(error).__name__} {str(error)[:500]}"
    return found


def _collect(found: Evidence, target: Target, users: int, began: date, say: Callable[[str], None]) -> None:
    record, stack = found.record, target.stack
    for name in TENANTS:
        tenant, operator = target.tenant(name), target.caller(name, "operator")
        # Only its own user is told how a session goes on.
        own = {f"u{number}": target.caller(name, f"u{number}") for number in range(users)}
        begun = [(own[session["user_id"]], session["session_id"]) for session in listed(operator)]
        say(f"{len(begun)} sessions of {name} ...")
        with ThreadPoolExecutor(3) as pool:
            for session, events in pool.map(lambda each: (each[0].session(each[1]), each[0].events(each[1])), begun):
                found.sessions[session["session_id"]] = session
                found.events[session["session_id"]] = events
        by_user = {user: caller.scopes() for user, caller in own.items()}
        days = ("--from", began.isoformat(), "--to", datetime.now(UTC).date().isoformat())
        report = stack.cli("spend", "report", "--by", "user", "--tenant", tenant, *days, exit_code=None)
        audit = stack.cli("audit", "verify", "--tenant", tenant, exit_code=None)
        found.books[tenant] = Books(by_user, report, audit)
    found.once, found.keyed = lines(target.effects / "once"), lines(target.effects / "keyed")
    found.dead = dead_letters(target, len(record.nonsense))
    found.queue = stack.depths(stack.kit.queue_url) if target.own else None
    found.logged = logged_errors(stack.home) if target.own else []


def logged_errors(home: Home) -> list[str]:
    """But for the test agent that cannot be loaded, which each process tells of."""
    found = []
    for part in ("worker", "ministack"):
        for line in home.log(part).read_text(errors="replace").splitlines():
            if '"level":"ERROR"' in line and "agent broken could not be loaded" not in line:
                found.append(f"{part}: {line[:1000]}")
    return found


def dead_letters(target: Target, expected: int) -> list[tuple[str, str]]:
    """Those of this run, looked at for some seconds at a time and so left where they are: as many as are expected, and
    then until a look finds nothing new."""
    found: dict[str, tuple[str, str]] = {}
    fruitless, give_up_at = 0, time.monotonic() + 60
    while time.monotonic() < give_up_at and (fruitless < 3 or (len(found) < expected and fruitless < 20)):
        received = target.stack.client("sqs").receive_message(
            QueueUrl=target.stack.kit.dlq_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=5,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
        before = len(found)
        for message in received.get("Messages", []):
            if target.own or target.mark in message["Body"]:
                code = message.get("MessageAttributes", {}).get("error_code", {}).get("StringValue", "")
                found[message["MessageId"]] = (message["Body"], code)
        fruitless = 0 if len(found) > before else fruitless + 1
    return list(found.values())
