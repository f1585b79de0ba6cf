"""What is chosen is read from the stage's file and from flags, and what makes no sense is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.infra.variants import EDGE, IAM, JWT, PRIVATE_NETWORK, RESTORED, SECRET_ARN
from tests.support.repository import REPOSITORY
from turnkeeper_infra import stages
from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.stages import from_context

Read = Callable[..., Config]


class Node:
    """As much of a construct's node as is read."""

    def __init__(self, context: dict[str, Any]) -> None:
        self._context = context

    def get_all_context(self) -> dict[str, Any]:
        return {"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:enable-path-metadata": True, **self._context}


def read(**context: Any) -> Config:
    return from_context(Node({"stage_file": "", **context}))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "stage.toml"
        path.write_text(text)
        return str(path)

    return write


JWT_FILE = """
identity = "jwt"
jwt_issuer = "https://issuer.example"
jwt_audience = ["turnkeeper"]
"""


def test_a_file_says_it_all_and_flags_override(file: Callable[[str], str]) -> None:
    path = file(JWT_FILE + 'worker_max_tasks = 3\nalert_email = "me@example.com"\n')
    config = read(stage_file=path, worker_max_tasks="5", alert_email="")
    assert (config.identity, config.jwt_audience) == ("jwt", ("turnkeeper",))
    assert config.worker_max_tasks == 5
    assert config.alert_email is None


def test_the_file_is_that_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_PROJECT", str(tmp_path))
    (tmp_path / "policy.toml").touch()
    (tmp_path / "stages").mkdir()
    for stage in ("prod", "dev"):
        (tmp_path / "stages" / f"{stage}.toml").write_text(f'stage = "{stage}"\nname = "{stage}"\n{JWT_FILE}')
    assert read_usual().name == "prod"
    assert read_usual(stage="dev").name == "dev"
    assert read_usual(local="true").name == "Turnkeeper", "a local kit reads no file"


def read_usual(**context: Any) -> Config:
    return from_context(Node(context))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_files_that_come_along_can_be_used(name: str) -> None:
    """Production's leaves its identity open, until somebody chooses one, and nothing else."""
    settings = stages.read(REPOSITORY / "stages" / f"{name}.toml")
    config = Config.of(settings if "identity" in settings else {**settings, **JWT})
    assert config.stage == name


def test_two_stages_do_not_share_their_stacks() -> None:
    names = [stages.read(path)["name"] for path in (REPOSITORY / "stages").glob("*.toml")]
    assert len(names) == len(set(names)) >= 2


def test_without_an_identity_nothing_is_synthesized_and_it_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="identity is not chosen") as refusal:
        read()
    assert 'identity = "jwt"' in str(refusal.value)
    assert 'identity = "iam"' in str(refusal.value)


def test_forgetting_the_issuer_does_not_turn_the_authorizer_to_iam(file: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match="needs jwt_issuer"):
        read(stage_file=file('identity = "jwt"\njwt_audience = ["turnkeeper"]\n'))
    flags = {key: value for key, value in JWT.items() if key != "identity"}
    assert read(**flags).identity == "jwt", "as commands from before say it"
    with pytest.raises(ConfigError, match="identity is not chosen"):
        read(jwt_audience=flags["jwt_audience"])
    with pytest.raises(ConfigError, match="identity is not chosen"):
        read(**flags, trusted_principals=IAM["trusted_principals"])


def test_an_identity_in_the_file_is_said_there(file: Callable[[str], str]) -> None:
    """Only a flag chooses by being there: what stands in a file is not left to be guessed."""
    with pytest.raises(ConfigError, match="identity is not chosen"):
        read(stage_file=file('jwt_issuer = "https://issuer.example"\njwt_audience = ["turnkeeper"]\n'))


@pytest.mark.parametrize("setting", sorted(Config.model_fields))
@hypothesis.settings(max_examples=10)  # Of each setting: some hundreds in all.
@given(place=st.integers(0, 40), letter=st.sampled_from("abcxyz"))
def test_a_setting_that_does_not_exist_is_refused_with_the_nearest(setting: str, place: int, letter: str) -> None:
    at = place % (len(setting) + 1)
    mistyped = f"{setting[:at]}{letter}{setting[at:]}"
    assume(mistyped not in Config.model_fields)
    with pytest.raises(ConfigError, match=f"{mistyped} is no setting; did you mean ") as refusal:
        read(**{mistyped: "1"}, **JWT)
    assert refusal.value.__cause__ is None


def test_one_deep_inside_is_told_by_its_place(file: Callable[[str], str]) -> None:
    path = file(JWT_FILE + '[[runners.secrets]]\nvarable = "ORDERS"\narn = "' + SECRET_ARN + '"\n')
    with pytest.raises(ConfigError, match=r"runners\.secrets\.0\.varable is no setting; did you mean variable\?"):
        read(stage_file=path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stage": "production", **JWT}, "stage: "),
        ({**JWT, "jwt_tenant_claim": " "}, "jwt_tenant_claim must be a word"),
        ({**JWT, "model_url": "api.example.com"}, "model_url must be an address"),
        ({**JWT, "api_rate_limit": "1000000000000"}, "api_rate_limit: "),
        ({**JWT, "worker_vcpus": "\u00b2"}, "worker_vcpus: "),
        ({**JWT, "memory_mb": '{"trun": 512}'}, r"memory_mb\.trun is no setting; did you mean turn\?"),
        ({**JWT, "secrets": json.dumps({"crm": {"arn": SECRET_ARN, "key": ""}})}, r"secrets\.crm\.key is no setting"),
        ({"turn_seconds": "1000", **JWT}, "turn_seconds: "),
        ({"fetch_contents": "no", **JWT}, "fetch_contents must be true or false"),
        ({"turn_seconds": "500", "turn_timeout_seconds": "400", **JWT}, "turn_seconds has to be less"),
        ({"jwt_issuer": "https://issuer.example"}, "jwt_issuer needs jwt_audience"),
        (
            {"identity": "jwt", "jwt_issuer": "http://issuer.example", "jwt_audience": "a"},
            "jwt_issuer must be an https",
        ),
        ({"identity": "iam"}, "needs trusted_principals"),
        ({"identity": "local"}, 'identity must be "jwt" or "iam"'),
        ({**IAM, "jwt_issuer": "https://issuer.example"}, "jwt_issuer is of no use"),
        ({**JWT, "trusted_principals": IAM["trusted_principals"]}, "trusted_principals are of no use"),
        ({**JWT, "trusted_principals": "Backend"}, r"trusted_principals\.0 must be the ARN"),
        ({**JWT, "worker_image": "example/worker:latest"}, "worker_image must be an image by its digest"),
        ({**JWT, "kms_key_arn": "alias/mine"}, "kms_key_arn must be the ARN of a KMS key"),
        ({**JWT, "vpc_id": PRIVATE_NETWORK["vpc_id"]}, "vpc_id needs vpc_subnet_ids"),
        ({**JWT, "vpc_subnet_ids": PRIVATE_NETWORK["vpc_subnet_ids"]}, "vpc_subnet_ids needs vpc_id"),
        ({**JWT, **PRIVATE_NETWORK, "nat_gateways": "2"}, "nat_gateways is about a network of the kit's own"),
        ({**JWT, **PRIVATE_NETWORK, "vpc_cidr": ""}, "vpc_endpoints in an existing network needs vpc_cidr"),
        ({**JWT, "cors_origins": "*"}, r"cors_origins\.0 must be an origin"),
        ({**JWT, "domain_name": "api.example.com"}, "domain_name and certificate_arn go together"),
        ({**JWT, "web_acl_arn": EDGE["web_acl_arn"]}, "web_acl_arn needs domain_name"),
        ({**IAM, **EDGE}, 'domain_name needs identity = "jwt"'),
        ({**JWT, "log_retention_days": "8"}, "log_retention_days must be one of"),
        ({**JWT, "table_name": "restored"}, "table_name and table_stream_arn go together"),
        ({**JWT, **RESTORED, "table_name": "another"}, "table_stream_arn is not of the table another"),
        ({**JWT, "settings": '{"CRM": "x"}'}, "lower case letters"),
        ({**JWT, "settings": '{"crm_token": "x"}'}, "looks like a secret"),
        ({**JWT, "settings": json.dumps({"crm_url": "x" * 3_000})}, "keep what is long in a secret"),
        ({**JWT, "secrets": '{"crm": "k-one-two"}'}, "whole ARN"),
        ({**JWT, "runners": '{"variables": {"AWS_REGION": "x"}}'}, "belongs to the kit or to AWS"),
        ({**JWT, "runners": '{"variables": {"ORDERS_PASSWORD": "x"}}'}, "looks like a secret"),
        (
            {**JWT, "runners": '{"policies": [{"sid": "A", "actions": ["s3:*"], "resources": ["arn:aws:s3:::b"]}]}'},
            "one action, without a star",
        ),
        (
            {**JWT, "runners": '{"policies": [{"sid": "A", "actions": ["s3:GetObject"], "resources": ["*"]}]}'},
            "must be an ARN",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(**settings)


NUMBERS = sorted(
    name
    for name, field in Config.model_fields.items()
    if field.annotation in (int, float) or name == "worker_min_tasks"
)


@pytest.mark.parametrize("setting", NUMBERS)
def test_a_number_is_not_said_by_true(file: Callable[[str], str], setting: str) -> None:
    """It would be 1: one task, one second, one call at a time."""
    with pytest.raises(ConfigError, match=f"{setting} must be a number, not true"):
        read(stage_file=file(f"{JWT_FILE}{setting} = true\n"))


@pytest.mark.parametrize("line", ["local = true", 'local_dependencies = "/tmp"', "identity = "])
def test_a_file_that_nobody_may_deploy_is_refused(file: Callable[[str], str], line: str) -> None:
    with pytest.raises(ConfigError, match=r"stage\.toml"):
        read(stage_file=file(line))


@pytest.mark.parametrize(
    "written", [JWT_FILE.encode("utf-16"), JWT_FILE.encode("utf-8-sig"), b"a = " + b"9" * 5_000, b"a = " + b"[" * 5_000]
)
def test_a_file_that_is_no_text_of_ours_is_named(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "stage.toml"
    path.write_bytes(written)
    with pytest.raises(ConfigError, match=r"stage\.toml cannot be read, as TOML in UTF-8 without a byte order mark"):
        read(stage_file=str(path))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no stage file"):
        read(stage_file="stages/nowhere.toml")


def test_dev_costs_nothing_while_it_rests_unless_told() -> None:
    assert read(**JWT).nat_gateways == 1
    assert read(stage="dev", **JWT).nat_gateways == 0
    assert read(stage="dev", nat_gateways="1", **JWT).nat_gateways == 1


def test_a_mistake_reaches_whoever_synthesizes(synthesize: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="jwt_isuer is no setting; did you mean jwt_issuer"):
        synthesize(jwt_isuer="https://issuer.example")


def test_who_synthesizes_is_told_what_to_write_and_sees_no_traceback() -> None:
    environment = {**os.environ, "CDK_CONTEXT_JSON": json.dumps({"stage_file": "stages/prod.toml"})}
    command = [sys.executable, "-m", "turnkeeper_infra.app"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'identity = "jwt"' in done.stderr
    assert "Traceback" not in done.stderr
