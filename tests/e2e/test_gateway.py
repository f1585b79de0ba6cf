"""The gateway under real traffic: many processes at one cap, processes that are killed, clients of several makers."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import anthropic
import pytest

from tests.e2e import gateway_traffic as traffic
from tests.e2e.money_traffic import Place, aws, till_of
from tests.e2e.outside import Document, Stack
from tests.e2e.test_money_races import books_of
from tests.support.examples import examples
from tests.support.gateway import MODEL, standin
from tests.support.money import TENANT
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.money import parse_usd
from turnkeeper.testing.schema import create_table

pytestmark = [pytest.mark.emulator, pytest.mark.timeout(300)]

SPAWN = multiprocessing.get_context("spawn")
PROCESSES = 4
CALLS = examples(300, all=1_000)
#: Not a divisor of any cap, so that a rest is left that no call may have.
AMOUNT = 7
ROOM = examples(90, all=300)
CAP = AMOUNT * ROOM + 3


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=SPAWN) as pool:
        yield pool


def new_place(emulator: str, *, lease_seconds: float = 60.0, **caps: int | None) -> Place:
    name = f"gateway-{uuid.uuid4().hex}"
    create_table(aws(emulator).dynamodb, name)
    return Place(emulator, name, tuple(sorted(caps.items())), 0.0, lease_seconds)


def everywhere(processes: ProcessPoolExecutor, work: Callable[..., Any], *rest: Any) -> list[Any]:
    futures = [processes.submit(work, *rest, *([number] if work is traffic.spend_many else [])) for number in range(4)]
    return [future.result() for future in futures]


def long(value: Any) -> Any:
    """A parameter that `make test` leaves out."""
    return pytest.param(value, marks=pytest.mark.long)


# ---- a thousand at once ----


@pytest.mark.parametrize("scope", ["task", *(long(scope) for scope in ("user_daily", "tenant_monthly", "its own"))])
def test_a_thousand_calls_of_one_token(scope: str, processes: ProcessPoolExecutor, emulator: str) -> None:
    """Exactly as many are in flight as fit, from four processes."""
    place = new_place(emulator, **({scope: CAP} if scope != "its own" else {}))
    till = till_of(place)
    till.tenants.set(TENANT, actor="ops", shards=4)
    caps = till.tenants.terms(TENANT).caps
    token = till.mint(task_nanousd=CAP if scope == "its own" else None)

    assert sum(everywhere(processes, traffic.hold_many, place, token.purse, CALLS // PROCESSES, AMOUNT)) == ROOM
    books = books_of(place)
    books.check()
    books.check_caps(caps)
    assert books.reserved == ROOM * AMOUNT
    for call in [each for each in books.calls if each.state == "pending"]:
        item = till.table.get(call.key)
        assert item is not None and till.purses.doubt(item)
    # Doubted in full: all of the cap is spent.
    assert everywhere(processes, traffic.spend_many, place, token.purse, 20, AMOUNT, 1) == [(0, 0)] * PROCESSES
    books_of(place).check_at_rest()


@pytest.mark.examples
def test_what_is_settled_makes_room_for_others_to_the_unit(processes: ProcessPoolExecutor, emulator: str) -> None:
    place = new_place(emulator, tenant_monthly=10 * CAP)
    till = till_of(place)
    token = till.mint(task_nanousd=CAP)
    done = everywhere(processes, traffic.spend_many, place, token.purse, CALLS // PROCESSES, AMOUNT, AMOUNT)
    books = books_of(place)
    books.check()
    books.check_at_rest()
    books.check_caps(till.tenants.terms(TENANT).caps)
    spent = till.purses.spent(TENANT, token.id)
    assert (spent.calls, spent.spent_nanousd) == (sum(made for made, _ in done), sum(cost for _, cost in done))
    assert CAP - AMOUNT < spent.spent_nanousd <= CAP


# ---- a process that is killed ----


def test_a_killed_gateway_leaves_doubt_but_no_debt(emulator: str) -> None:
    """kill -9 with calls in flight. The sweep doubts them once the process is known to be dead, and no earlier."""
    place = new_place(emulator, lease_seconds=2.0, user_daily=10**9)
    till = till_of(place)
    token, known = till.tokens.mint(TENANT, "ann", actor="ops")
    queue = SPAWN.Queue()
    with standin() as model_url:
        process = SPAWN.Process(target=traffic.serve, args=(place, model_url, queue), daemon=True)
        process.start()
        url = queue.get(timeout=60)

        async def calls() -> list[Any]:
            client = anthropic.AsyncAnthropic(auth_token=token, api_key=None, base_url=url, max_retries=0)
            text = "[[sleep 60]] [[say never]]"
            ask = client.messages.create
            messages: Any = [{"role": "user", "content": text}]
            asked = [asyncio.create_task(ask(model=MODEL, max_tokens=50, messages=messages)) for _ in range(5)]
            while len([call for call in books_of(place).calls if call.state == "pending"]) < 5:
                await asyncio.sleep(0.1)
            await asyncio.sleep(6)  # Longer than it may be silent.
            assert till.sweep() == 0
            process.kill()
            process.join()
            return await asyncio.gather(*asked, return_exceptions=True)

        assert all(isinstance(each, anthropic.APIConnectionError) for each in asyncio.run(calls()))
    until = time.monotonic() + 30
    doubted = 0
    while doubted < 5 and time.monotonic() < until:
        time.sleep(0.5)
        doubted += till.sweep()
    books = books_of(place)
    books.check()
    books.check_at_rest()
    assert [(call.state, call.spent) for call in books.calls] == [
        ("in_doubt", call.reservation.amount_nanousd) for call in books.calls
    ]
    spent = till.purses.spent(TENANT, known.id)
    assert (spent.calls, spent.in_doubt_nanousd) == (5, books.spent)


# ---- clients of several makers, on a whole kit ----

QUESTION = "[[tokens 60]] [[say it is well]]"


class Made:
    """How often one client was answered, by which usage, and what stopped it."""

    def __init__(self) -> None:
        self.usages: list[Document] = []
        self.refusals: list[anthropic.APIStatusError] = []


async def with_anthropic(url: str, token: str, calls: int) -> Made:
    made, client = Made(), anthropic.AsyncAnthropic(base_url=url, auth_token=token, api_key=None)

    async def call() -> None:
        try:
            messages: Any = [{"role": "user", "content": QUESTION}]
            message = await client.messages.create(model=MODEL, max_tokens=200, messages=messages)
            made.usages.append(
                {"input_tokens": message.usage.input_tokens, "output_tokens": message.usage.output_tokens}
            )
        except anthropic.APIStatusError as error:
            made.refusals.append(error)

    await asyncio.gather(*(call() for _ in range(calls)))
    return made


async def with_langchain(url: str, token: str, calls: int) -> Made:
    from langchain_anthropic import ChatAnthropic

    made = Made()
    chat = ChatAnthropic(model_name=MODEL, base_url=url, api_key=token, max_tokens_to_sample=200)  # type: ignore[call-arg]

    async def call() -> None:
        try:
            answer = await chat.ainvoke(QUESTION)
            usage: Any = answer.usage_metadata
            made.usages.append({name: usage[name] for name in ("input_tokens", "output_tokens")})
        except anthropic.APIStatusError as error:
            made.refusals.append(error)

    await asyncio.gather(*(call() for _ in range(calls)))
    return made


async def with_pydantic_ai(url: str, token: str, calls: int) -> Made:
    from pydantic_ai import Agent
    from pydantic_ai.exceptions import ModelHTTPError
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    made, provider = Made(), AnthropicProvider(base_url=url, api_key=token)
    agent = Agent(AnthropicModel(MODEL, provider=provider), model_settings={"max_tokens": 200})

    async def call() -> None:
        try:
            usage = (await agent.run(QUESTION)).usage
            usage = usage() if callable(usage) else usage
            made.usages.append({"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens})
        except ModelHTTPError as error:
            assert isinstance(error.__cause__, anthropic.APIStatusError)
            made.refusals.append(error.__cause__)

    await asyncio.gather(*(call() for _ in range(calls)))
    return made


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One for all calls of a test: clients keep their connections."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.stack
@pytest.mark.parametrize("client", [with_anthropic, long(with_langchain), long(with_pydantic_ai)])
def test_other_makers_clients_stop_at_the_cap(client: Callable[..., Any], stack: Stack, loop: asyncio.Runner) -> None:
    """64 in flight: never over, one clean stop each, and the ledger says what the clients were told."""
    tenant, cap = f"t-{uuid.uuid4().hex[:8]}", "0.02"
    made_of = ("gateway", "token", "--tenant", tenant, "--user", "u1", "--task-usd", cap, "--label", client.__name__)
    token = stack.cli(*made_of)
    assert token["gateway_url"] == stack.kit.gateway_url
    made: Made = loop.run(client(stack.kit.gateway_url, token["token"], 64))

    assert 0 < len(made.usages) < 64
    assert len(made.usages) + len(made.refusals) == 64
    for refused in made.refusals:
        assert refused.status_code == 402
        assert refused.body["error"]["type"] == "billing_error"  # type: ignore[index]
    [known] = stack.cli("gateway", "tokens", "--tenant", tenant)["tokens"]
    # Each refused call asked once, and none of the others was tried again.
    assert known["calls"] == len(made.usages)
    assert known["reserved_usd"] == "0.000000"
    costs = [BundledPrices().cost_nanousd(MODEL, usage, {}) for usage in made.usages]
    assert parse_usd(known["spent_usd"]) == sum(costs) <= parse_usd(cap)
    records = stack.cli("audit", "show", token["id"], "--tenant", tenant)["records"]
    assert [record["outcome"] for record in records] == ["settled"] * len(made.usages)
    assert all(record["detail"]["label"] == client.__name__ for record in records)
    scopes = {scope["scope"]: scope for scope in stack.cli("spend", "--tenant", tenant, "--user", "u1")["scopes"]}
    assert parse_usd(scopes["user_daily"]["spent_usd"]) == sum(costs)

    report = stack.cli("spend", "report", "--by", "user", "--tenant", tenant)
    [row] = report["rows"]
    assert (row["key"], row["calls"], parse_usd(row["total_usd"])) == ("u1", len(made.usages), sum(costs))
    assert not report["differences"]

    revoked = stack.cli("gateway", "revoke", token["id"])
    assert revoked["status"] == "revoked"
    again: Made = loop.run(client(stack.kit.gateway_url, token["token"], 1))
    assert [refused.status_code for refused in again.refusals] == [403]
    chain = stack.cli("audit", "show", "--tenant", tenant)["records"]
    assert [record["detail"]["action"] for record in chain] == ["gateway_token", "gateway_token_revoked"]
    assert stack.cli("audit", "verify", "--tenant", tenant)["ok"]
