"""What goes out to DynamoDB, and what its answers mean: as a client of botocore has it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, HTTPClientError, InvalidRegionError, NoCredentialsError
from botocore.httpsession import URLLib3Session

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.dynamodb_endpoint import of_environment
from turnkeeper.adapters.table_values import to_wire
from turnkeeper.core.errors import Unavailable
from turnkeeper.table import ABSENT, ConditionFailed, Key, Put


@pytest.fixture(params=["environment", "session"])
def aws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """By what it is told of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (("ACCESS_KEY_ID", "AKIDEXAMPLE"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    if request.param == "session":
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    return Aws(region="eu-west-1")


def answering(aws: Aws, status: int, body: bytes) -> list[Any]:
    """Requests that were sent, each answered like this."""
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request)
        return SimpleNamespace(status_code=status, content=body, headers={})

    for events in {aws._surroundings.events, aws._session.get_component("event_emitter")}:
        events.register("before-send.dynamodb", answer)
    return sent


def test_the_same_is_sent_as_by_a_client(aws: Aws) -> None:
    sent = answering(aws, 200, b"{}")

    def arguments(data: Any) -> dict[str, Any]:
        item = {"pk": {"S": "p"}, "sk": {"S": "\u00e9"}, "data": {"B": data}, "n": {"N": "1"}}
        return {"TransactItems": [{"Put": {"TableName": "t", "Item": item}}], "ClientRequestToken": "x" * 32}

    assert aws.table_requests.transact_write_items(**arguments(to_wire(b"\x00\xff\xfe>?")["B"])) == {}
    aws.dynamodb.transact_write_items(**arguments(b"\x00\xff\xfe>?"))
    ours, theirs = sent
    assert (ours.url, ours.method, json.loads(ours.body)) == (theirs.url, theirs.method, json.loads(theirs.body))
    for name in ("X-Amz-Target", "Content-Type", "X-Amz-Security-Token"):
        assert ours.headers[name] in (theirs.headers[name], theirs.headers[name].decode())
    signed = ours.headers["Authorization"]
    assert "AKIDEXAMPLE/" in signed
    assert "/eu-west-1/dynamodb/aws4_request" in signed
    assert "x-amz-security-token" in signed


def test_bytes_come_back_as_they_were(aws: Aws) -> None:
    data = base64.b64encode(b"\x00\xff").decode()
    answering(aws, 200, json.dumps({"Item": {"pk": {"S": "p"}, "sk": {"S": "s"}, "data": {"B": data}}}).encode())
    assert DynamoTable(aws.table_requests, "t").get(Key("p", "s")) == {"pk": "p", "sk": "s", "data": b"\x00\xff"}


def test_a_refusal_is_told_as_a_client_tells_it(aws: Aws) -> None:
    reasons = [{"Code": "ConditionalCheckFailed", "Item": {"pk": {"S": "p"}, "sk": {"S": "s"}}}, {"Code": "None"}]
    told = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "CancellationReasons": reasons}
    answering(aws, 400, json.dumps({**told, "Message": "why"}).encode())
    with pytest.raises(ClientError) as refused:
        aws.table_requests.transact_write_items(TransactItems=[])
    assert refused.value.response["Error"] == {"Code": "TransactionCanceledException", "Message": "why"}
    with pytest.raises(ConditionFailed) as failed:
        DynamoTable(aws.table_requests, "t").write([Put(Key("p", "s"), {}, (ABSENT,)), Put(Key("p", "t"), {})])
    assert failed.value.failures == {0: {"pk": "p", "sk": "s"}}


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"busy"', b"\xff", b'{"Attributes": {'])
def test_an_answer_that_is_none(aws: Aws, body: bytes) -> None:
    """Whoever stands in between may say anything: nobody knows then what became of a write."""
    answering(aws, 200, body)
    requests = aws.table_requests
    for call in (requests.get_item, requests.update_item, requests.transact_write_items):
        with pytest.raises(HTTPClientError):
            call(TableName="t")
    with pytest.raises(Unavailable):
        DynamoTable(requests, "t", busy_seconds=0).write([Put(Key("p", "s"), {})])


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"busy"', b"\xff"])
def test_a_refusal_in_other_words_than_dynamodbs(aws: Aws, body: bytes) -> None:
    answering(aws, 503, body)
    with pytest.raises(ClientError) as refused:
        aws.table_requests.get_item(TableName="t", Key={})
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert refused.value.response["Error"]["Code"] == "503"


def test_nothing_is_sent_without_credentials(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    sent = answering(aws, 200, b"{}")
    monkeypatch.setitem(vars(aws), "_surroundings", aws._surroundings._replace(credentials=None))
    with pytest.raises(NoCredentialsError):
        aws.table_requests.get_item(TableName="t", Key={})
    assert sent == []


@pytest.mark.parametrize("value", [{1, 2}, object()])
def test_what_is_no_json_is_a_defect(aws: Aws, value: object) -> None:
    with pytest.raises(TypeError, match="a request holds no"):
        aws.table_requests.get_item(TableName=value)


REGIONS = ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-east-1-fips", "fips-us-gov-west-1"]
SAID: list[dict[str, str]] = [
    {},
    {"AWS_USE_FIPS_ENDPOINT": "true"},
    {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_ENDPOINT_URL": "http://localhost:4566"},
    {"AWS_ENDPOINT_URL_DYNAMODB": "http://localhost:8000/"},
    {"AWS_ENDPOINT_URL": "http://localhost:4566", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    {"AWS_CONFIG_FILE": "configured"},
    {"HTTPS_PROXY": "http://proxy:3128", "AWS_CA_BUNDLE": "/bundle.pem", "REQUESTS_CA_BUNDLE": "/other.pem"},
    {"HTTPS_PROXY": "https://a%40b:c@proxy:3128", "HTTP_PROXY": "proxy:80", "NO_PROXY": "elsewhere"},
    {"HTTPS_PROXY": "proxy", "HTTP_PROXY": "//proxy:80", "NO_PROXY": "amazonaws.com,amazonaws.com.cn,127.0.0.1"},
    {"REQUESTS_CA_BUNDLE": "/other.pem"},
]


GIVEN = [(region, None) for region in REGIONS] + [("eu-west-1", "http://127.0.0.1:8123")]


@pytest.mark.parametrize("said", SAID, ids=str)
@pytest.mark.parametrize(("region", "given"), GIVEN)
def test_it_goes_where_a_client_would_send_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, aws: Aws, region: str, said: dict[str, str], given: str | None
) -> None:
    """Whatever the environment and botocore's file say of it, and over connections of the same kind."""
    Path(tmp_path, "configured").write_text(
        "[default]\nservices = s\n[services s]\ndynamodb =\n  endpoint_url = http://c:1\n"
    )
    monkeypatch.chdir(tmp_path)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    aws = Aws(region=region, endpoint_url=given, max_pool_connections=7)
    client: Any = Aws(region=region, endpoint_url=given, max_pool_connections=7).dynamodb
    ours: Any = aws.table_requests
    url = f"{client._endpoint.host.rstrip('/')}/"
    assert ours._url == url
    assert ours._region == client._request_signer.region_name
    assert facts(ours._connections._pool) == facts(pool_of(client._endpoint.http_session, url))
    target = client._endpoint.http_session._get_request_target(url, ours._connections._proxy)
    assert ours._connections._target == target


def pool_of(session: Any, url: str) -> Any:
    """What botocore's session sends to this address with."""
    manager = session._get_connection_manager(url, session._proxy_config.proxy_url_for(url))
    pool = manager.connection_from_url(url)
    session._setup_ssl_cert(pool, url, session._verify)
    return pool


def facts(pool: Any) -> dict[str, Any]:
    """What one pool may have otherwise than another."""
    names = ("scheme", "host", "port", "proxy", "proxy_headers", "cert_reqs", "ca_certs", "cert_file", "key_file")
    found = {name: getattr(pool, name, None) for name in names}
    if pool.scheme == "http":  # No certificate is asked for.
        found |= {"cert_reqs": None, "ca_certs": None}
    tls = pool.conn_kw.get("ssl_context")
    return found | {
        "timeout": repr(pool.timeout),
        "kept": pool.pool.maxsize,
        "socket": pool.conn_kw["socket_options"],
        "tls": tls and (tls.options, tls.verify_mode, tls.check_hostname, tls.post_handshake_auth),
    }


def test_no_client_is_made_where_the_region_says_it_all(aws: Aws) -> None:
    assert aws.table_requests
    assert "dynamodb" not in vars(aws)


@pytest.mark.parametrize("region", ["eu west", " eu-west-1", "eu-west-1/x", "evil.example/x", "-"])
def test_what_is_no_region_is_refused_as_by_a_client(aws: Aws, region: str) -> None:
    with pytest.raises(InvalidRegionError):
        assert Aws(region=region).table_requests


FILES = [".aws/config", ".aws/credentials", ".boto"]
SAID_OTHERWISE = ["AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"]


@pytest.mark.parametrize("aws", ["environment"], indirect=True)
def test_where_the_environment_says_it_all_no_session_is_made(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert aws.table_requests
    assert aws.credentials.get_frozen_credentials().token == "token"
    assert (aws.own_region, Aws().own_region) == ("eu-west-1", "eu-north-1")
    assert "_session" not in vars(aws)


@pytest.mark.parametrize("aws", ["environment"], indirect=True)
@pytest.mark.parametrize("said", SAID_OTHERWISE)
def test_what_the_environment_says_otherwise_is_for_a_session(
    monkeypatch: pytest.MonkeyPatch, aws: Aws, said: str
) -> None:
    monkeypatch.setenv(said, "x")
    assert of_environment("eu-west-1", aws._named, aws._loader) is None


@pytest.mark.parametrize("aws", ["environment"], indirect=True)
@pytest.mark.parametrize("name", FILES)
def test_what_files_say_is_for_a_session(tmp_path: Path, aws: Aws, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("[default]\nregion = eu-north-1\n")
    assert of_environment("eu-west-1", aws._named, aws._loader) is None


def test_a_code_with_an_address_behind_it(aws: Aws) -> None:
    answering(aws, 400, b'{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException:http://internal/"}')
    with pytest.raises(ClientError) as refused:
        aws.table_requests.get_item()
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"


def test_credentials_of_a_signed_in_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As people have them who work on a deployed kit: asked of SSO, by a client that the credentials make."""

    def answer(_: object, request: Any) -> Any:
        assert request.headers["x-amz-sso_bearer_token"] == b"token"
        keys = {"accessKeyId": "AKIDSSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": 4_070_908_800_000}
        body = json.dumps({"roleCredentials": keys}).encode()
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda: [body]))

    monkeypatch.setattr(URLLib3Session, "send", answer)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    sso = "sso_start_url = https://sso\nsso_region = eu-west-1\nsso_account_id = 123456789012\nsso_role_name = r\n"
    Path(tmp_path, "config").write_text(f"[default]\n{sso}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = Path(tmp_path, ".aws", "sso", "cache")
    cache.mkdir(parents=True)
    signed_in = {"accessToken": "token", "expiresAt": "2099-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'https://sso').hexdigest()}.json").write_text(json.dumps(signed_in))
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    aws = Aws(region="eu-west-1")
    assert aws.credentials.get_frozen_credentials().access_key == "AKIDSSO"
    assert aws.sqs._request_signer._credentials is aws.credentials


def test_clients_have_the_credentials_that_the_table_has(aws: Aws) -> None:
    """Those that are renewed are renewed once for all."""
    assert aws.sqs._request_signer._credentials is aws.credentials
