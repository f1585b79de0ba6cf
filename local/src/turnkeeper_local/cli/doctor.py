"""What a kit needs, checked one by one: the machine, then the kit that is up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.checks import Check
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.place import Place, find_if_up
from turnkeeper_project import find_project

if TYPE_CHECKING:
    from rich.table import Table

    from turnkeeper_local.cli.operator import Operator

_TOOL_SECONDS = 20


def examine(stack: str | None) -> list[Check]:
    """All checks, in the order in which one would repair what is missing. A local kit that is down fails none. With the
    stacks of a deployed kit (or of one to be deployed) the account is looked at first."""
    place = find_if_up(stack)
    checks: list[Check] = []
    if stack is None:
        checks += [_python(), _node(), _npm(), _cdk(), _ports(up=place is not None), _model_key()]
        checks.append(_agents("anthropic"))
        if place is None:
            checks.append(Check("kit", True, "not up", "`turnkeeper up` brings it up"))
    if place is not None and not place.local and place.database_url is None:
        checks += _account(place)
    return [*checks, *(_kit(place) if place is not None else ())]


def table(checks: list[Check]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from turnkeeper_local.cli.text import plain

    grid = Table.grid(padding=(0, 2))
    for check in checks:
        finding = Text(plain(check.detail))
        if check.hint:
            finding.append(f"\n{plain(check.hint)}", style="dim")
        grid.add_row(Text("✓", style="green") if check.ok else Text("✗", style="bold red"), check.name, finding)
    return grid


# ---- the machine ----


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "python", sys.version_info >= (3, 11), version, None if sys.version_info >= (3, 11) else "3.11 is needed"
    )


def _node() -> Check:
    version = _version("node", "--version")
    if version is None:
        return Check("node", False, "not found", "install Node.js 20 or newer: the CDK needs it")
    well = int(version.split(".")[0]) >= 20
    return Check("node", well, version, None if well else "Node.js 20 or newer is needed")


def _npm() -> Check:
    version = _version("npm", "--version")
    return Check("npm", version is not None, version or "not found", None if version else "comes with Node.js")


def _cdk() -> Check:
    from turnkeeper_local.kit.environments import find_cdk

    # No fault where it is missing: whatever needs it fetches it, and `npm` above is what that takes.
    there = find_cdk(find_project())
    return Check(
        "cdk", True, "installed" if there else "not there yet: the first `turnkeeper up` or `synth` fetches it"
    )


def _ports(*, up: bool) -> Check:
    from turnkeeper_local.kit.ports import DEFAULT_FIRST_PORT, is_free

    first = os.environ.get("TURNKEEPER_PORT", "").strip() or str(DEFAULT_FIRST_PORT)
    if not first.isdecimal() or not 0 <= int(first) <= 65_000:
        return Check("ports", False, f"TURNKEEPER_PORT is {first!r}", "a whole number from 0 to 65000")
    if up or first == "0":
        return Check("ports", True, "in use by the kit" if up else "any free ones")
    # The kit takes free ports from the first on, so a port that is taken is no trouble; a whole range that is, is.
    free = sum(is_free(port) for port in range(int(first), int(first) + 20))
    hint = None if free >= 4 else "set TURNKEEPER_PORT to look elsewhere"
    return Check("ports", free >= 4, f"{free} of 20 from {first} on are free", hint)


def _model_key() -> Check:
    if os.environ.get("ANTHROPIC_API_KEY"):
        return Check("key", True, "ANTHROPIC_API_KEY is set: Claude answers in kits that are brought up now")
    return Check("key", True, "no ANTHROPIC_API_KEY: the stand-in model answers")


def _agents(provider: str) -> Check:
    """Agents and policy of this project, as they are deployed from it: what `turnkeeper check` finds."""
    from turnkeeper_local.cli.looking import look

    answer = look(find_project(), provider)
    told = [str(finding) for finding in answer.errors() or answer.warnings()]
    names = ", ".join(str(agent["name"]) for agent in answer.agents) or "none"
    if answer.errors():
        return Check("agents", False, "\n".join(told), "`turnkeeper check` says this and more")
    return Check("agents", True, "\n".join([names, *told]))


# ---- the account ----


def _account(place: Place) -> Iterator[Check]:
    from turnkeeper_local.cli.account import examine_account, examine_alerts

    def client(service: str) -> Any:
        make: Any = place.session.client
        return make(service)

    try:
        outputs = place.outputs
    except Exception:  # noqa: BLE001 - told by the check of the stacks
        outputs = {}
    yield from examine_account(client, deployed=bool(outputs))
    if outputs:
        yield examine_alerts(client, outputs["AlertTopicArn"])


# ---- the kit ----


def _kit(place: Place) -> Iterator[Check]:
    from turnkeeper_local.cli.status import alive, api_answers

    if place.database_url is not None:
        yield from _on_database(place)
        return
    try:
        stacks = place.outputs
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor was asked to find
        yield Check("stacks", False, str(error), _START_AGAIN if place.local else _NOT_DEPLOYED)
        return
    yield Check("stacks", True, f"{place.stacks}State and {place.stacks}Api are deployed")
    well = api_answers(place)
    yield Check("api", well, place.api_url, None if well else _START_AGAIN)
    if place.local:
        pid = int(place.document["worker_pid"])
        yield Check("worker", alive(pid), f"process {pid}", None if alive(pid) else _START_AGAIN)
        yield _model(str(place.document["model_url"]))
    yield from _with_operator(place, stacks["TableName"])


def _on_database(place: Place) -> Iterator[Check]:
    from turnkeeper.adapters.sql.opening import without_password
    from turnkeeper_local.cli.status import api_answers

    hint = "start it again: `turnkeeper serve`" if place.local else "does it run, and is that its address?"
    try:
        well = api_answers(place)
        yield Check("api", well, place.api_url, None if well else hint)
    except CliError as error:
        yield Check("api", False, error.detail, hint)
    if place.local:
        yield _model(str(place.document["model_url"]))
    yield from _with_operator(place, without_password(str(place.database_url)))


_NOT_DEPLOYED = "not deployed yet (`turnkeeper deploy --stage NAME`), or another region or account?"
_START_AGAIN = "`turnkeeper down` and `turnkeeper up`; the logs are in .turnkeeper/logs"


def _with_operator(place: Place, table_name: str) -> Iterator[Check]:
    from turnkeeper_local.cli.operator import connect

    def looked(name: str, look: Callable[[Operator], Check]) -> Check:
        try:
            return look(operator)
        except Exception as error:  # noqa: BLE001 - as above
            return Check(name, False, str(error), "may these credentials read it?")

    try:
        operator = connect(place)
    except CliError as error:
        yield Check("table", False, error.detail, error.hint)
        return
    yield looked("table", lambda one: Check("table", bool(one.tenant("doctor")), table_name))
    yield looked("queues", _queues)
    if not place.local and place.database_url is None:
        yield looked("agents", lambda _: _agents(_provider(place)))


def _provider(place: Place) -> str:
    """Whose models the deployed kit calls."""
    client: Any = place.session.client("lambda")
    deployed = client.get_function_configuration(FunctionName=place.outputs["TurnFunction"])
    return str(deployed["Environment"]["Variables"].get("TURNKEEPER_MODEL_PROVIDER", "anthropic"))


def _queues(operator: Operator) -> Check:
    depths = operator.queue_depths()
    dead = depths["dead_letters"]
    detail = f"{depths['queue']} waiting, {depths['in_flight']} being worked on, {dead} dead letters"
    return Check("queues", dead == 0, detail, "`turnkeeper redrive` gives them back to the queue" if dead else None)


def _model(url: str) -> Check:
    import httpx2

    local = url.startswith("http://127.0.0.1")
    try:
        with httpx2.Client(timeout=10, trust_env=not local) as client:
            # Any answer will do: without a key, Anthropic's is a refusal.
            status = client.get(f"{url}/v1/models").status_code
    except httpx2.HTTPError as error:
        return Check("model", False, f"{url}: {error}", _START_AGAIN if local else "is the network in the way?")
    who = "the stand-in model" if local else url
    return Check("model", status < 500, f"{who} answers at {url}" if local else f"{who} answers")


def _version(*command: str) -> str | None:
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run([path, *command[1:]], check=True, capture_output=True, text=True, timeout=_TOOL_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else None
