"""Caps under real threads and real processes, through the real store and engine: on the emulator, and in databases."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import money_traffic as traffic
from tests.e2e.money_traffic import Cost, Place
from tests.support.examples import examples
from tests.support.money import TENANT, Books, Till
from turnkeeper.adapters.sql import schema
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.session import Head
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.testing.schema import create_table

pytestmark = pytest.mark.timeout(300)

SPAWN = multiprocessing.get_context("spawn")
PROCESSES = 3
CALLS = examples(300, all=1_000)
#: Not a divisor of any cap, so that a rest is left that no call may have.
AMOUNT = 7
ROOM = examples(90, all=300)
CAP = AMOUNT * ROOM + 3

Scopes = tuple[Scope, ...]
ALL: Scopes = tuple(SCOPES)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=SPAWN) as pool:
        yield pool


STORES = ("dynamodb", "postgresql", "sqlite")


def store(name: str, *, long: bool) -> Any:
    marks = [pytest.mark.emulator] * (name == "dynamodb") + [pytest.mark.long] * long
    return pytest.param(name, marks=marks, id=name)


def on(*stores: str) -> Any:
    """On every store, of which `make test` takes these."""
    return pytest.mark.parametrize(
        "new_place", [store(each, long=each not in stores) for each in STORES], indirect=True
    )


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Place]:
    """A store of its own, at noon in the middle of the month: no midnight comes in the way. Or half a day before the
    month ends, when it is another month elsewhere."""

    def new_place(*, lease_seconds: float = 60.0, month_ends: bool = False, **caps: int | None) -> Place:
        name = f"money-{uuid.uuid4().hex}"
        url = _made(request, tmp_path, name)
        now = datetime.now(UTC)
        noon = now.replace(day=15, hour=12, minute=0, second=0)
        if month_ends:
            noon = (noon + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        return Place(url, name, tuple(sorted(caps.items())), (noon - now).total_seconds(), lease_seconds)

    return new_place


def _made(request: pytest.FixtureRequest, folder: Path, name: str) -> str:
    """The address of the store, with a table of this name where it has tables by name."""
    if request.param == "dynamodb":
        emulator: str = request.getfixturevalue("emulator")
        create_table(traffic.aws(emulator).dynamodb, name)
        return emulator
    postgresql = request.param == "postgresql"
    url: str = request.getfixturevalue("postgresql").database() if postgresql else f"sqlite:///{folder / name}"
    schema.migrate(traffic.database(url))
    return url


def books_of(place: Place) -> Books:
    return Books.of(traffic.items_of(place))


def till_with(place: Place, shards: int) -> Till:
    till = traffic.till_of(place)
    till.tenants.set(TENANT, actor="ops", shards=shards)
    return till


def spread(
    processes: ProcessPoolExecutor, work: Callable[..., Any], place: Place, heads: list[Head], *rest: Any
) -> list[Any]:
    """The same work in all processes at once, each with its part of the sessions."""
    parts = [heads[number::PROCESSES] for number in range(PROCESSES)]
    futures: list[Future[Any]] = [processes.submit(work, place, part, *rest) for part in parts if part]
    return [future.result() for future in futures]


# ---- a thousand at once ----


CASES: list[tuple[Scopes, int, Cost]] = [
    (("tenant_monthly",), 1, "at"),
    (("tenant_monthly",), 16, "below"),
    (("user_daily",), 1, "none"),
    (("agent_daily",), 4, "below"),
    (ALL, 4, "at"),
]
EVERY: list[tuple[Scopes, int, Cost]] = [
    (scopes, shards, cost)
    for scopes in (*((scope,) for scope in SCOPES if scope != "task"), ALL)
    for shards in (1, 4, 16)
    for cost in ("none", "below", "at")
]


def thousand(name: str, case: tuple[Scopes, int, Cost]) -> Any:
    """Of the cases each is in `make test` on one store and with fewer calls, on the others with all of them in CI, and
    every other at night."""
    scopes, shards, cost = case
    turn = CASES.index(case) if case in CASES else None
    marks = [pytest.mark.nightly] if turn is None else [pytest.mark.long] * (STORES[turn % len(STORES)] != name)
    marks += [pytest.mark.emulator] * (name == "dynamodb")
    return pytest.param(name, *case, marks=marks, id=f"{name}-{'+'.join(scopes)}-{shards}-{cost}")


@pytest.mark.parametrize(
    ("new_place", "scopes", "shards", "cost"),
    [thousand(name, case) for case in dict.fromkeys([*CASES, *EVERY]) for name in STORES],
    indirect=["new_place"],
)
def test_a_thousand_calls_at_once(
    scopes: Scopes, shards: int, cost: Cost, processes: ProcessPoolExecutor, new_place: Callable[..., Place]
) -> None:
    """Exactly as many are admitted as fit. What is settled below its reservation makes room for others, to the unit."""
    place = new_place(**{scope: AMOUNT if scope == "task" else CAP for scope in scopes})
    till = till_with(place, shards)
    caps = till.tenants.terms(TENANT).caps
    heads = [till.new_head(f"ses-{number}") for number in range(CALLS)]
    till.open(*heads)

    admitted, refused = _admit(processes, place, heads)
    assert len(admitted) == ROOM
    held = books_of(place)
    held.check()
    held.check_caps(caps)
    assert held.reserved == ROOM * AMOUNT

    spread(processes, traffic.settle_many, place, admitted, cost)
    settled = books_of(place)
    settled.check()
    settled.check_at_rest()

    again, _ = _admit(processes, place, refused[: ROOM + 20])
    assert len(again) == min((CAP - settled.spent) // AMOUNT, ROOM + 20)
    spread(processes, traffic.settle_many, place, again, "at")
    books = books_of(place)
    books.check()
    books.check_caps(caps)
    books.check_at_rest()
    books.check_shares(till.tenants.terms(TENANT))
    assert books.spent == settled.spent + len(again) * AMOUNT


def _admit(processes: ProcessPoolExecutor, place: Place, heads: list[Head]) -> tuple[list[Head], list[Head]]:
    done = spread(processes, traffic.admit_many, place, heads, AMOUNT)
    for _, _, refusals in done:
        # Money that is only reserved is no reason to say that it is spent.
        assert all(refusal["contended"] or float(refusal["spent_usd"]) > 0 for refusal in refusals)
    return [head for part in done for head in part[0]], [head for part in done for head in part[1]]


@on("sqlite")
def test_a_task_ends_at_its_own_cap(processes: ProcessPoolExecutor, new_place: Callable[..., Place]) -> None:
    """A thousand calls, fifty tasks, room for six calls in each."""
    place = new_place(task=AMOUNT * 6 + 3)
    till = till_with(place, 4)
    heads = [till.new_head(f"ses-{number}", f"u{number % 5}") for number in range(50)]
    till.open(*heads)
    done = spread(processes, traffic.call_often, place, heads, AMOUNT, AMOUNT, 20, 0.0)
    assert sum(made for made, _ in done) == 50 * 6
    assert all(data["scope"] == "task" and not data["contended"] for _, refusals in done for data in refusals)
    books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_caps(till.tenants.terms(TENANT).caps)


# ---- all of it can be used ----


@on("postgresql")
@pytest.mark.parametrize("shards", [1, pytest.param(4, marks=pytest.mark.nightly), 16])
def test_small_calls_use_up_the_cap(
    shards: int, processes: ProcessPoolExecutor, new_place: Callable[..., Place]
) -> None:
    """Before the first refusal at least 99 % is used; in fact all but what no call fits into."""
    place = new_place(tenant_monthly=CAP)
    till = till_with(place, shards)
    heads = [till.new_head(f"ses-{number}") for number in range(PROCESSES * traffic.THREADS)]
    till.open(*heads)
    done = spread(processes, traffic.call_often, place, heads, AMOUNT, AMOUNT, ROOM, 0.0)
    refusals = [data for _, refusals in done for data in refusals]
    assert len(refusals) == len(heads)
    for data in refusals:
        used = float(data["spent_usd"]) + float(data["reserved_usd"])
        assert used >= 0.99 * float(data["limit_usd"])
    books = books_of(place)
    books.check()
    books.check_at_rest()
    assert books.spent == ROOM * AMOUNT


@on("dynamodb")
@pytest.mark.parametrize("scope", ["tenant_monthly", pytest.param("user_daily", marks=pytest.mark.nightly)])
def test_a_burst_waits_for_money_in_flight(
    scope: Scope, processes: ProcessPoolExecutor, new_place: Callable[..., Place]
) -> None:
    """24 at once, at a cap that allows 45 calls one after the other but holds only six reservations at a time: all 45
    are made, and the 46th is refused because the money is spent."""
    cost, bound = 10, 80
    place = new_place(**{scope: 44 * cost + bound})
    till = till_with(place, 4)
    first = [till.new_head(f"first-{number}") for number in range(24)]
    then = [till.new_head(f"then-{number}") for number in range(21)]
    last = till.new_head("last")
    till.open(*first, *then, last)
    done = spread(processes, traffic.call_often, place, first, bound, cost, 1, 60.0, 0.01)
    done += spread(processes, traffic.call_often, place, then, bound, cost, 1, 60.0, 0.01)
    assert sum(made for made, _ in done) == 45
    made, [refused] = traffic.call_often(place, [last], bound, cost, 1, 60.0)
    assert made == 0
    assert (refused["scope"], refused["contended"]) == (scope, False)
    books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_caps(till.tenants.terms(TENANT).caps)


# ---- changes while traffic runs ----


@on("dynamodb")
def test_shards_caps_and_the_kill_switch_under_traffic(
    processes: ProcessPoolExecutor, new_place: Callable[..., Place]
) -> None:
    """Runners know only the terms of the beginning. After each pause nothing is admitted, so what is committed then
    tells whether a cap was passed: it may be above a lowered cap only by what was there before."""
    place = new_place(tenant_monthly=2_000, user_daily=100_000)
    till = till_with(place, 4)
    heads = [till.new_head(f"ses-{number}", f"u{number % 7}") for number in range(PROCESSES * traffic.THREADS)]
    till.open(*heads)
    parts = [heads[number::PROCESSES] for number in range(PROCESSES)]
    futures = [
        processes.submit(traffic.keep_calling, place, part, 60, 6.0, number) for number, part in enumerate(parts)
    ]
    chance = random.Random(3)
    cap, before = 2_000, 0
    until = time.monotonic() + 5.0
    rounds = 0
    while time.monotonic() < until:
        time.sleep(0.25)
        till.tenants.set(TENANT, actor="ops", shards=chance.choice([1, 2, 4, 16]))
        till.tenants.set(TENANT, actor="ops", paused=True)
        assert _committed(place) <= max(cap, before)
        time.sleep(0.1)
        before = _committed(place)
        cap = chance.choice([before // 2, before + chance.randint(0, 300), before + 1_000])
        till.tenants.set(
            TENANT,
            actor="ops",
            caps={"tenant_monthly": cap},
            shards=chance.choice([None, 1, 16]),
            paused=False,
        )
        rounds += 1
    admitted = sum(future.result() for future in futures)
    assert rounds > 1
    assert admitted
    books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_shares(till.tenants.terms(TENANT))


#: What is set in turn, and where: what comes first matters most, for a slow machine gets no further.
ROUNDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Pacific/Kiritimati", {"plan": "by_agent"}),
    ("Etc/GMT+12", {"caps": {"agent_daily": None}}),
    ("Etc/GMT+12", {"caps": {"agent_daily": 500}}),
    ("plan", {"from_plan": {"agent_daily"}}),
    ("Pacific/Kiritimati", {"plan": "plan"}),
    ("Pacific/Kiritimati", {"caps": {"agent_daily": 200}}),
    ("UTC", {"plan": "by_agent", "from_plan": {"agent_daily"}}),
    ("Europe/Zurich", {"caps": {"agent_daily": 900}}),
)


@on("sqlite")
def test_caps_of_agents_and_time_zones_under_traffic(
    processes: ProcessPoolExecutor, new_place: Callable[..., Place], tmp_path: Path
) -> None:
    """Caps of agents come, change and go, for all and for each, while it is the last day of a month here and the first
    of the next one elsewhere. After each pause nothing is admitted, so what the counters hold then tells whether a cap
    was passed; what they hold in the end, whether a call was settled elsewhere than it was reserved."""
    place = new_place(month_ends=True, tenant_monthly=100_000)
    till = till_with(place, 4)
    agents = ("support", "research", "billing")
    heads = [
        till.new_head(f"ses-{number}", f"u{number % 7}", agent=agents[number % 3])
        for number in range(PROCESSES * traffic.THREADS)
    ]
    till.open(*heads)
    parts = [heads[number::PROCESSES] for number in range(PROCESSES)]
    enough = tmp_path / "enough"
    futures = [
        processes.submit(traffic.keep_calling, place, part, 60, 60.0, number, enough)
        for number, part in enumerate(parts)
    ]
    before: dict[tuple[str, str], int] = {}
    until = time.monotonic() + 40.0
    rounds = called = 0
    try:
        for zone, setting in ROUNDS:
            time.sleep(0.3)
            while len(books_of(place).calls) <= called and time.monotonic() < until:
                time.sleep(0.1)  # On a busy machine nobody has called yet by the terms of now.
            caps = till.tenants.set(TENANT, actor="ops", paused=True).caps
            today = caps.period("agent_daily", till.clock.now())
            for (agent, day), held in _held(place, agents).items():
                cap = caps.cap("agent_daily", agent)
                assert day != today or cap is None or held <= max(cap, before.get((agent, day), 0)), (agent, day)
            time.sleep(0.1)
            before, called = _held(place, agents), len(books_of(place).calls)
            till.tenants.set(TENANT, actor="ops", timezone=zone, paused=False, **setting)
            rounds += 1
            if time.monotonic() > until:
                break
    finally:
        enough.touch()
        wait(futures)  # Else they would call on into the next test.
    assert rounds > 1
    assert sum(future.result() for future in futures)
    books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_shares(till.tenants.terms(TENANT))
    assert len({call.reservation.periods["tenant_monthly"] for call in books.calls}) == 2
    assert {"agent_daily" in call.reservation.periods for call in books.calls} == {True, False}


def _held(place: Place, agents: Iterable[str]) -> dict[tuple[str, str], int]:
    """What each agent's days hold."""
    books = books_of(place)
    days = {call.reservation.periods["user_daily"] for call in books.calls}
    return {
        (agent, day): int(books.counter("agent_daily", day, agent=agent).get("committed", 0))
        for agent in agents
        for day in days
    }


def _committed(place: Place) -> int:
    books = books_of(place)
    [month] = {month for month, _ in books.shards}
    return books.committed(month)


# ---- processes that die ----


@on("dynamodb")
def test_killed_runners_leave_doubt_but_no_debt(new_place: Callable[..., Place]) -> None:
    """kill -9 at random moments of whole turns; whoever takes over books what was in flight at its full amount."""
    lease_seconds = 1.0
    place = new_place(lease_seconds=lease_seconds, tenant_monthly=300_000, user_daily=80_000, task=20_000)
    till = till_with(place, 4)
    caps = till.tenants.terms(TENANT).caps
    sessions = traffic.take_in(place, 120)
    chance = random.Random(5)
    for number in itertools.count():
        working = [SPAWN.Event() for _ in range(2)]
        runners = [
            SPAWN.Process(target=traffic.run_turns, args=(place, sessions, 2 * number + index, event))
            for index, event in enumerate(working)
        ]
        for runner in runners:
            runner.start()
        for event, runner in zip(working, runners, strict=True):
            event.wait(60)
            # So short that sessions are left for many kills: each finds a call in flight or does not.
            time.sleep(0.05 + chance.random() * 0.25)
            runner.kill()
            runner.join()
        books = books_of(place)
        books.check()
        books.check_caps(caps)
        # Of those before, the next runners have made a doubt already.
        if number >= 2 and any(call.state == "pending" for call in books.calls):
            break
        assert any(not head.resting for head in books.heads.values()), "no kill found a call in flight"

    lost = {call.session_id: call.reservation.call for call in books.calls if call.state == "pending"}
    deadline = time.monotonic() + 60
    while any(not head.resting for head in books.heads.values()) and time.monotonic() < deadline:
        time.sleep(lease_seconds + SKEW_MILLIS / 1000 + 0.2)
        left = [head.session_id for head in books.heads.values() if not head.resting]
        traffic.run_turns(place, left, 7)
        books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_caps(caps)
    assert all(head.resting for head in books.heads.values())
    doubted = {(call.session_id, call.reservation.call): call for call in books.calls if call.state == "in_doubt"}
    for place_of_call in lost.items():
        call = doubted[place_of_call]
        assert call.spent == call.reservation.amount_nanousd
    # What entries tell adds up to what was booked.
    for head in list(books.heads.values())[:20]:
        entries = till.sessions.load(TENANT, head.session_id).entries
        assert sum(entry.cost_nanousd for entry in entries) == head.account.cost_nanousd
