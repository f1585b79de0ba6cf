"""Every setting arrives at the parts that it is for.

Each has a row below: values as they stand in the environment, and what the parts that it concerns make of each. So a
setting that nobody reads, or that is handed to the wrong part, fails here; and so does a new one without a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from functions.turn import handler as turn
from tests.support import wiring_sql
from tests.support.wiring import Folder, Process
from tests.unit.wiring import observing as seen
from turnkeeper.settings import PREFIX, Settings
from turnkeeper.wiring.needs import MissingSetting

RECEIVER = {"otlp_endpoint": "http://a.example:4318"}
CLOUDWATCH = "https://xray.eu-central-1.amazonaws.com/v1/traces"


@dataclass(frozen=True)
class Row:
    #: What the parts that the setting is for have understood of it.
    ask: Callable[[Process], object]
    #: A value in the environment, and what is to be understood of it. An empty value counts as absent.
    values: Mapping[str, object]
    #: Settings that are needed beside it.
    beside: Mapping[str, str] = field(default_factory=dict)


# ---- the rows ----

JWT = {"identity": "jwt"}

ROWS: Mapping[str, Row] = {
    "table": Row(seen.table, {"one": "one", "two": "two"}),
    "bucket": Row(seen.bucket, {"one": "one", "two": "two"}),
    "queue_url": Row(seen.queue_url, {"https://one": "https://one", "https://two": "https://two"}),
    "dlq_url": Row(seen.dead_letters, {"https://one": "https://one", "https://two": "https://two"}),
    "traces_queue_url": Row(seen.traces_queue, {"https://one.example": "https://one.example", "b": "b"}),
    "words_queue_url": Row(seen.words_queue, {"https://one": "https://one", "": None}),
    "event_bus": Row(seen.event_bus, {"one": "one", "two": "two", "": None}),
    "hook_secret_id": Row(seen.hook_secret, {"one": ("one", "whsec_"), "two": ("two", "whsec_")}),
    "reply_queues": Row(
        seen.reply_queue, {'{{"results": "https://one"}}': ["https://one"], '{{"other": "https://two"}}': [], "": []}
    ),
    "webhook_networks": Row(
        seen.webhook_networks,
        {
            "127.0.0.0/8": ["http://127.0.0.1:9/"],
            "127.0.0.0/8, 10.0.0.0/8": ["http://127.0.0.1:9/", "http://10.0.0.1/"],
            "": [],
        },
    ),
    "trace_contents": Row(seen.trace_contents, {"one, two": ("one", "two"), "*": ("*",), "": ()}, RECEIVER),
    "otlp_endpoint": Row(
        seen.trace_sent_to,
        {
            "http://a.example:4318": ("http://a.example:4318/v1/traces", ""),
            CLOUDWATCH: (CLOUDWATCH, "AWS4-HMAC-SHA256"),
        },
    ),
    "otlp_secret_id": Row(seen.trace_headers, {"one": "key of one", "two": "key of two", "": None}, RECEIVER),
    "deployment": Row(seen.trace_resource, {"Prod": "Prod", "": "local"}, RECEIVER),
    "turn_function": Row(seen.turn_function, {"one:live": "one:live", "two": "two", "": None}),
    "signing_secret_id": Row(seen.signing_secret, {"one": "one", "two": "two"}),
    "model_secret_id": Row(
        seen.model_key, {"one": "Bearer key of one", "two": "Bearer key of two", "": "Bearer a key of the environment"}
    ),
    "model_provider": Row(
        seen.model_provider,
        {
            "": ("/v1/messages", "Bearer"),
            "anthropic": ("/v1/messages", "Bearer"),
            "bedrock": ("/model/global.anthropic.claude-sonnet-5-5/invoke-with-response-stream", "AWS4-HMAC-SHA256"),
        },
    ),
    "model_url": Row(
        seen.model_address,
        {
            "https://one.example": "https://one.example/v1/messages",
            "https://two.example/api": "https://two.example/api/v1/messages",
            "": "https://api.anthropic.com/v1/messages",
        },
    ),
    "alert_topic_arn": Row(seen.alert_topic, {"arn:one": ["arn:one"], "arn:two": ["arn:two"], "": []}),
    "turn_seconds": Row(seen.turn_seconds, {"5": 5.0, "600": 600.0}),
    "lease_seconds": Row(seen.lease_seconds, {"7": (7.0, 7.0, 74.0), "70": (70.0, 70.0, 200.0)}),
    "auto_placement": Row(
        seen.placed,
        {"latency": (0, 1, 0), "economy": (1, 1, 1), "": (0, 1, 0)},
        {"turn_function": "turns", "worker_service": "here/worker"},
    ),
    "default_wait_seconds": Row(
        seen.default_wait, {"0": 0.0, "7": 7.0, "": 20.0}, {"turn_function": "turns", "identity": "local"}
    ),
    "compact_writes": Row(seen.writes_compactly, {"": True, "true": True, "false": False}),
    "worker_concurrency": Row(seen.worker_concurrency, {"3": (3, 16, 3), "30": (30, 70, 30)}),
    "worker_processes": Row(seen.worker_processes, {"3": (3, 80), "1": (1, 80), "": (2, 80)}),
    "worker_service": Row(
        seen.woken_service, {"here/worker": [("here", "worker")], "there/other": [("there", "other")], "": []}
    ),
    "worker_max_tasks": Row(seen.most_tasks, {"3": 3, "30": 30, "": 10}, {"worker_service": "here/worker"}),
    "front_door_turns": Row(seen.front_door_turns, {"3": 3, "0": None, "": 16}),
    "sweep_seconds": Row(seen.sweep_seconds, {"7": 7.0, "": 60.0}),
    "stop_seconds": Row(seen.stop_seconds, {"7": 7.0, "70": 70.0}),
    "health_port": Row(seen.health_server("port"), {"1": 1, "2": 2}),
    "health_host": Row(seen.health_server("host"), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}),
    "agent_sdk_slots": Row(seen.sdk_engine(lambda engine: engine.slots), {"2": 2, "": 1}),
    "agent_sdk_folder": Row(
        seen.sdk_engine(lambda engine: str(engine.means.folder)),
        {"/data/agents": "/data/agents", "": "/tmp/turnkeeper-agents"},
    ),
    "agent_sdk_user": Row(
        seen.sdk_engine(lambda engine: (engine.means.account, engine.slots)), {"7000": ((7000, 7000), 4), "": (None, 1)}
    ),
    "gateway_port": Row(seen.gateway_server("port"), {"7": 7, "0": 0, "": None}),
    "gateway_host": Row(seen.gateway_server("host"), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}, {"gateway_port": "0"}),
    "gateway_wait_seconds": Row(lambda process: process.kit.gateway.till.wait_seconds, {"5": 5.0, "": 30.0}),
    "fetch_contents": Row(seen.guards_contents, {"": True, "true": True, "false": False}),
    "tool_secrets": Row(
        seen.tool_secrets, {'{{"crm": "one"}}': ["one"], '{{"crm": "two", "db": "three"}}': ["two"], "": []}
    ),
    "tool_settings": Row(seen.tool_settings, {'{{"crm_url": "one"}}': "one", "{{}}": None, "": None}),
    "agents": Row(
        seen.agents,
        {"{root}/more:{root}/yet-more": {"desk", "lab", "shop"}, "{root}/more": {"desk", "lab"}, "": {"desk"}},
    ),
    "root": Row(seen.root, {"{root}": ("free", {"desk"}), "{root}/elsewhere": ("paid", {"till"})}),
    "identity": Row(
        seen.caller, {"jwt": ("claimed", "claimant", "clerk"), "iam": 403, "local": ("named", "name", "admin"), "": 403}
    ),
    "trusted_principals": Row(
        seen.trusted,
        {
            f"{seen.PRINCIPALS}/A": {"A"},
            f"{seen.PRINCIPALS}/B, {seen.PRINCIPALS}/C": {"B", "C"},
            "": set(),
        },
    ),
    "jwt_tenant_claim": Row(
        seen.caller, {"org": ("firm", "claimant", "clerk"), "": ("claimed", "claimant", "clerk")}, JWT
    ),
    "jwt_user_claim": Row(
        seen.caller, {"mail": ("claimed", "m@x", "clerk"), "": ("claimed", "claimant", "clerk")}, JWT
    ),
    "jwt_role_claim": Row(
        seen.caller, {"rank": ("claimed", "claimant", "chief"), "": ("claimed", "claimant", "clerk")}, JWT
    ),
    "database_url": Row(
        wiring_sql.database, {"sqlite:///{root}/one.db": "one.db", "sqlite:///{root}/two.db": "two.db", "": None}
    ),
    "database_migrate": Row(wiring_sql.migrates, {"true": True, "false": False, "": True}, wiring_sql.SQLITE),
    "database_connections": Row(wiring_sql.connections, {"3": 3, "": 10}, wiring_sql.POSTGRESQL),
    "database_blob_bytes": Row(
        wiring_sql.outside, {"10": 2, "": 1, "3000000": 0}, {**wiring_sql.SQLITE, "blob_folder": "{root}/blobs"}
    ),
    "blob_folder": Row(wiring_sql.outside, {"{root}/blobs": 1, "": 0}, {**wiring_sql.SQLITE, "bucket": ""}),
    "signing_key_file": Row(
        wiring_sql.signing_keys,
        {"{root}/a": "aaaaa", "{root}/b": "bbbbb", "": "other"},
        {**wiring_sql.SQLITE, "signing_key": "other" * 10},
    ),
    "signing_key": Row(wiring_sql.signing_keys, {"a" * 32: "aaaaa", "b" * 50: "bbbbb"}, wiring_sql.SQLITE),
    "model_key_file": Row(
        wiring_sql.model_key,
        {"{root}/one": "Bearer key of one", "": "Bearer a key of the environment"},
        wiring_sql.SQLITE,
    ),
    "secrets_folder": Row(
        wiring_sql.tool_secret,
        {"{root}/one": "a secret of one", "{root}/two": "a secret of two"},
        {**wiring_sql.SQLITE, "tool_secrets": '{{"crm": "crm-key"}}'},
    ),
    "alert_url": Row(wiring_sql.alerted, {"https://one.example": ["https://one.example"], "": []}, wiring_sql.SQLITE),
    "jwt_issuer": Row(
        seen.issuer(0),
        {"https://a.example/": "https://a.example/", "https://b": "https://b"},
        {**JWT, "jwt_audience": "one"},
    ),
    "jwt_audience": Row(
        seen.issuer(1), {"one": ("one",), "one, two": ("one", "two")}, {**JWT, "jwt_issuer": "https://a.example"}
    ),
    "cors_origins": Row(
        seen.let_in_from,
        {"https://b.example, https://a.example": "https://a.example", "https://b.example": None, "": None},
    ),
    "api_host": Row(seen.server(lambda asked, _: asked.call_args.args[0]), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}),
    "api_port": Row(seen.server(lambda asked, _: asked.call_args.args[1]), {"7": 7, "0": 0, "": 8000}),
    "api_fd": Row(seen.server(lambda asked, _: asked.call_args.args[2]), {"7": 7, "": None}),
    "forwarded_allow_ips": Row(
        seen.server(lambda _, server: (server.config.proxy_headers, server.config.forwarded_allow_ips)),
        {"10.0.0.1, 10.0.0.2": (True, ["10.0.0.1", "10.0.0.2"]), "": (False, [])},
    ),
    "stream_seconds": Row(seen.stream_ends_in, {"200": 200, "": 840}, {"identity": "local"}),
    "stream_readers": Row(seen.streams_at_once, {"7": 7, "": 2_000}, {"identity": "local"}),
    "web_adapter": Row(
        seen.signed_through_adapter,
        {"true": 200, "": 401},
        {"identity": "iam", "trusted_principals": f"{seen.PRINCIPALS}/A"},
    ),
    "log_level": Row(seen.log_levels, {"DEBUG": {"DEBUG"}, "ERROR": {"ERROR"}, "": {"INFO"}}),
}


def test_every_setting_has_a_row() -> None:
    assert set(ROWS) == set(Settings.model_fields)


@pytest.mark.parametrize("setting", ROWS)
def test_the_setting_arrives(setting: str, folder: Folder) -> None:
    row = ROWS[setting]
    understood = {value: row.ask(folder.process(**{**row.beside, setting: value})) for value in row.values}
    assert understood == row.values
    assert any(one != other for one in understood.values() for other in understood.values()), "it makes no difference"


def test_the_turn_lambda_asks_itself_for_the_next_run(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own alias can be no setting of it; one that is set counts all the same."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "me")
    asked = {}
    for value in ("", "another:live"):
        with seen.started(folder.process(turn_function=value)):
            asked[value] = turn.turn_runner.__wrapped__()._kit.settings.turn_function
    assert asked == {"": "me:live", "another:live": "another:live"}


NEEDED: Mapping[str, Callable[[Process], object]] = {
    "table": seen.table,
    "bucket": seen.bucket,
    "queue_url": seen.queue_url,
    "dlq_url": seen.dead_letters,
    "signing_secret_id": seen.signing_secret,
}


@pytest.mark.parametrize("setting", NEEDED)
def test_a_setting_that_is_needed_and_absent_is_named(setting: str, folder: Folder) -> None:
    with pytest.raises(MissingSetting, match=f"{PREFIX}{setting.upper()} is not set"):
        NEEDED[setting](folder.process(**{setting: ""}))
