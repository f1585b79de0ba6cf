"""The kit on this machine: a real `cdk deploy` onto the emulator, with handlers of the test's own."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest

from tests.support.repository import REPOSITORY
from tests.support.running_kit import running_kit
from tests.support.trees import make_tree
from turnkeeper_local.kit import Home, KitError, KitSettings, LocalKit, down, up
from turnkeeper_local.kit.edits import Edits, make_edits_live
from turnkeeper_local.kit.home import read_json
from turnkeeper_local.kit.http import answers
from turnkeeper_local.kit.processes import Started
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.state import Holdings, holdings

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("kit-tree"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("kit-home"))


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in a further folder of agents."""
    file = tmp_path_factory.mktemp("kit-agents") / "late" / "agent.py"
    file.parent.mkdir()
    file.write_text("first\n")
    return file


@pytest.fixture(scope="module")
def chosen(further: Path) -> dict[str, str]:
    seconds = {"TURNKEEPER_TURN_SECONDS": "7", "TURNKEEPER_LEASE_SECONDS": "9"}
    return {**seconds, "TURNKEEPER_AGENTS": str(further.parents[1])}


@pytest.fixture(scope="module")
def settings(tree: Path, chosen: dict[str, str]) -> KitSettings:
    settings = KitSettings.from_environment({"TURNKEEPER_PORT": "0", **chosen})
    return dataclasses.replace(settings, project=tree, source_root=tree)


@pytest.fixture(scope="module")
def running(home: Home, tree: Path, chosen: dict[str, str]) -> Iterator[LocalKit]:
    with running_kit(home.path, source_root=tree, **chosen) as kit:
        yield kit


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def client(kit: LocalKit, service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=kit.aws_endpoint_url,
        region_name=kit.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def eventually(holds: Callable[[], Any], within_seconds: float = 15) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
    return found


def item(kit: LocalKit, sort_key: str) -> Any:
    key = {"pk": {"S": "acme"}, "sk": {"S": sort_key}}
    return client(kit, "dynamodb").get_item(TableName=kit.table_name, Key=key).get("Item")


def run_turn(kit: LocalKit) -> Any:
    """What a turn that begins now leaves behind."""
    client(kit, "dynamodb").delete_item(TableName=kit.table_name, Key={"pk": {"S": "acme"}, "sk": {"S": "turn"}})
    get(f"{kit.api_url}/v1/start")
    return eventually(lambda: item(kit, "turn"))


def remembered(home: Home, settings: KitSettings) -> KitSettings:
    """What `up` takes in another shell, that has no variables but the port."""
    recalled = KitSettings.from_environment({"TURNKEEPER_PORT": "0"}, remembered=Record.read(home).settings)
    return dataclasses.replace(recalled, project=settings.project, source_root=settings.source_root)


def drained(kit: LocalKit) -> list[str]:
    bodies: list[str] = []
    while found := client(kit, "sqs").receive_message(QueueUrl=kit.queue_url, WaitTimeSeconds=1).get("Messages"):
        bodies += [each["Body"] for each in found]
    return bodies


def test_local_json_says_what_the_contract_says(running: LocalKit, home: Home) -> None:
    document = read_json(home.local_json)
    assert document == dataclasses.asdict(running)
    assert set(document) == {
        *("api_url", "queue_url", "dlq_url", "table_name", "region"),
        *("aws_endpoint_url", "model_url", "worker_pid", "console_url", "gateway_url", "stream_url", "reply_queues"),
    }
    assert answers(f"{running.model_url}/healthz")


def test_plain_http_reaches_the_front_door_with_its_settings(running: LocalKit) -> None:
    assert get(f"{running.api_url}/v1/health") == {"status": "ok"}
    seen = get(f"{running.api_url}/v1/settings")
    assert seen["TURNKEEPER_TURN_SECONDS"] == "7"
    assert seen["TURNKEEPER_LEASE_SECONDS"] == "9"
    assert seen["TURNKEEPER_IDENTITY"] == "local"
    event = get(f"{running.api_url}/v1/sessions?limit=2&status=idle")
    assert (event["rawPath"], event["rawQueryString"]) == ("/v1/sessions", "limit=2&status=idle")


def test_turn_stream_and_queue_work_from_within_functions(running: LocalKit) -> None:
    assert get(f"{running.api_url}/v1/start") == {"status": 202}
    turn = eventually(lambda: item(running, "turn"))
    assert turn["arn"]["S"].endswith(":live")
    assert turn["secret_keys"]["SS"] == ["current", "previous"]
    assert eventually(lambda: item(running, "seen")), "the observer reads the table's stream"
    sqs = client(running, "sqs")
    received = sqs.receive_message(QueueUrl=running.queue_url, WaitTimeSeconds=5)
    assert received["Messages"][0]["Body"] == "from the turn"
    attributes = sqs.get_queue_attributes(QueueUrl=running.queue_url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "9"
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] in {3, "3"}


def test_a_worker_that_dies_is_followed_by_another(running: LocalKit, home: Home) -> None:
    before = LocalKit.read(home)
    assert before is not None
    os.kill(before.worker_pid, signal.SIGKILL)
    after = eventually(lambda: (kit := LocalKit.read(home)) and kit.worker_pid != before.worker_pid and kit)
    os.kill(after.worker_pid, 0)
    assert dataclasses.replace(after, worker_pid=before.worker_pid) == before


def test_up_again_leaves_a_kit_alone_that_is_up_to_date(running: LocalKit, home: Home, settings: KitSettings) -> None:
    steps: list[str] = []
    again = up(settings, home=home, progress=steps.append)
    assert again == LocalKit.read(home)
    assert steps == []


def test_up_after_a_change_deploys_it_and_keeps_the_sessions(
    running: LocalKit, home: Home, settings: KitSettings, tree: Path
) -> None:
    client(running, "dynamodb").put_item(TableName=running.table_name, Item={"pk": {"S": "acme"}, "sk": {"S": "kept"}})
    again = up(dataclasses.replace(settings, turn_seconds=8), home=home)
    assert get(f"{again.api_url}/v1/settings")["TURNKEEPER_TURN_SECONDS"] == "8"
    assert item(again, "kept")
    assert run_turn(again)["turn_seconds"]["S"] == "8", "the version that callers are given has it, too"


def test_up_that_cannot_keeps_the_kit_that_is_up(
    running: LocalKit, home: Home, settings: KitSettings, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(running, "dynamodb").put_item(TableName=running.table_name, Item={"pk": {"S": "acme"}, "sk": {"S": "held"}})
    handler = tree / "functions/api/handler.py"
    whole = handler.read_text()
    handler.write_text("raise RuntimeError('not today')\n")
    with monkeypatch.context() as patch:
        patch.setattr("turnkeeper_local.kit.kit._HEALTH_SECONDS", 1)
        with pytest.raises(KitError, match="/v1/health does not answer"):
            up(settings, home=home)
    left = LocalKit.read(home)
    assert left is not None
    os.kill(left.worker_pid, 0)
    handler.write_text(whole)
    assert item(up(settings, home=home), "held")


def test_edits_are_live_without_a_deploy_and_taken_back_by_one(
    running: LocalKit, home: Home, settings: KitSettings, tree: Path
) -> None:
    before = up(settings, home=home)
    deploys = home.log("cdk").read_text().count("$ cdk deploy")
    handler = tree / "functions/turn/handler.py"
    edits = Edits(settings)
    assert edits.changed() == []
    whole = handler.read_text()
    handler.write_text(whole.replace('"first"', '"second"'))
    assert edits.changed() == [handler]
    after = make_edits_live(settings, [handler], home=home)
    assert after.worker_pid != before.worker_pid
    assert run_turn(after)["edition"]["S"] == "second"
    steps: list[str] = []
    assert up(settings, home=home, progress=steps.append) == LocalKit.read(home)
    assert steps == [], "what was swapped in is up to date"
    assert home.log("cdk").read_text().count("$ cdk deploy") == deploys
    handler.write_text(whole)
    assert run_turn(up(settings, home=home))["edition"]["S"] == "first", "the stacks never had another"


def test_up_notices_an_edit_in_a_further_folder_of_agents(
    running: LocalKit, home: Home, settings: KitSettings, further: Path
) -> None:
    further.write_text("second\n")
    steps: list[str] = []
    kit = up(settings, home=home, progress=steps.append)
    assert "deploying the stacks" in steps
    aws = client(kit, "lambda")
    name = next(f["FunctionName"] for f in aws.list_functions()["Functions"] if "-Turn" in f["FunctionName"])
    code = httpx2.get(aws.get_function(FunctionName=name, Qualifier="live")["Code"]["Location"]).content
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        assert archive.read("agents_2/late/agent.py") == b"second\n"


def test_the_state_outlives_the_kit(tree: Path, tmp_path: Path, settings: KitSettings) -> None:
    home = Home(tmp_path / "home")
    try:
        first = up(
            dataclasses.replace(settings, anthropic_api_key="sk-test", model_url="http://127.0.0.1:1"), home=home
        )
        aws = client(first, "dynamodb")
        aws.put_item(TableName=first.table_name, Item={"pk": {"S": "T#acme#S#s1"}, "sk": {"S": "HEAD"}})
        spent = {"pk": {"S": "T#acme#U#u1"}, "sk": {"S": "MONTH#2026-01"}, "spent": {"N": "2500000"}}
        aws.put_item(TableName=first.table_name, Item=spent)
        client(first, "sqs").send_message(QueueUrl=first.queue_url, MessageBody="kept", MessageGroupId="g")
        run_turn(first)
        assert holdings(home) == Holdings(sessions=1, spent_usd=0.0025)
        assert down(home)
        assert holdings(home) == Holdings(sessions=1, spent_usd=0.0025)
        kept = [file for file in home.path.rglob("*") if file.is_file()]
        assert not [file for file in kept if b"sk-test" in file.read_bytes()], "a key is no state"

        again = up(remembered(home, settings), home=home)  # on other ports, for it takes any
        assert again.aws_endpoint_url != first.aws_endpoint_url
        assert again.model_url != first.model_url, "settings go when it does"
        bodies = drained(again)
        assert "kept" in bodies
        client(again, "dynamodb").delete_item(
            TableName=again.table_name, Key={"pk": {"S": "acme"}, "sk": {"S": "seen"}}
        )
        run_turn(again)
        assert eventually(lambda: item(again, "seen")), "the observer reads on"

        process = Record.read(home).process("ministack")
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        steps: list[str] = []
        last = up(remembered(home, settings), home=home, progress=steps.append)
        assert [step for step in steps if "is lost" in step]
        assert item(last, "turn"), "what was there when it last started"
        assert down(home, forget=True)
        assert holdings(home) is None
        assert not home.kit_json.exists()
        assert not home.state.exists()
    finally:
        down(home, forget=True)


def test_down_ends_what_an_up_that_crashed_had_started(tree: Path, tmp_path: Path) -> None:
    """The hard case: no exception handler ran."""
    script = (
        "import dataclasses, sys; from pathlib import Path; from turnkeeper_local.kit import Home, KitSettings, up;"
        "s = dataclasses.replace(KitSettings.from_environment(), first_port=0, project=Path(sys.argv[1]),"
        " source_root=Path(sys.argv[1]));"
        "up(s, home=Home(Path(sys.argv[2])))"
    )
    home = Home(tmp_path / "home")
    process = subprocess.Popen([sys.executable, "-c", script, str(tree), str(home.path)], cwd=REPOSITORY)
    try:
        recorded = eventually(lambda: (read_json(home.kit_json) or {}).get("processes"), within_seconds=60)
        process.kill()
        process.wait()
        recorded = (read_json(home.kit_json) or {})["processes"]
        started = [Started.from_json(entry) for entry in recorded.values()]
        assert started
        assert down(home)
        assert not [one for one in started if one.alive()]
        assert not down(home), "there is nothing left to end"
    finally:
        process.kill()
        down(home)


def test_up_that_cannot_says_why_and_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    broken = make_tree(tmp_path / "tree")
    (broken / "functions/api/handler.py").write_text("raise RuntimeError('not today')\n")
    home = Home(tmp_path / "home")
    settings = dataclasses.replace(KitSettings(), first_port=0, project=broken, source_root=broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnkeeper_local.kit.kit._HEALTH_SECONDS", 1)
        with pytest.raises(KitError, match="/v1/health does not answer"):
            up(settings, home=home)
    assert not home.local_json.exists()
    assert not home.kit_json.exists()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"TURNKEEPER_TURN_SECONDS": "soon"}, "TURNKEEPER_TURN_SECONDS"),
        ({"TURNKEEPER_PORT": "70000"}, "TURNKEEPER_PORT"),
        ({"TURNKEEPER_AGENTS": "nowhere"}, "TURNKEEPER_AGENTS"),
        ({"TURNKEEPER_SCENARIO": "nothing.yaml"}, "TURNKEEPER_SCENARIO"),
        ({"TURNKEEPER_MODEL_PROVIDER": "bedrock"}, "Bedrock"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    with pytest.raises(KitError, match=named):
        KitSettings.from_environment(environment)
