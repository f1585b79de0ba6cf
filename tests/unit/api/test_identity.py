"""Who is asking: from the authorizer, never from anywhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.api.app import FrontDoor
from tests.support.http import Response, answered, event
from tests.support.kit import MemoryKit
from turnkeeper.runtime.store import codec

ROLE = "arn:aws:iam::123456789012:role/service/backend"
SESSION = "arn:aws:sts::123456789012:assumed-role/backend/i-0123"
USER = "arn:aws:iam::123456789012:user/deployer"
NAMED = {"X-Tenant-Id": "acme", "X-User-Id": "ann"}


def spend(kit: MemoryKit, headers: dict[str, str] | None = None, authorizer: Any = None) -> Response:
    return answered(FrontDoor(kit), event("GET", "/v1/spend", headers=headers, authorizer=authorizer))


def who(response: Response) -> tuple[str, str]:
    document = response.ok()
    return document["tenant_id"], document["user_id"]


def role(kit: MemoryKit, headers: dict[str, str] | None = None, authorizer: Any = None) -> str:
    """The role that a session is created with."""
    body = '{"agent": "slow", "input": "x"}'
    made = event(
        "POST", "/v1/sessions", headers={"prefer": "wait=0", **(headers or {})}, body=body, authorizer=authorizer
    )
    session_id = answered(FrontDoor(kit), made).ok(202)["session_id"]
    heads = [codec.head_of(item) for item in kit.table.snapshot() if item["sk"] == "HEAD"]
    [made_with] = [head.role for head in heads if head.session_id == session_id]
    return made_with


# ---- local ----


def test_a_kit_on_ones_own_machine_knows_somebody() -> None:
    kit = MemoryKit()
    assert who(spend(kit)) == ("local", "dev")
    assert role(kit) == "admin"
    assert who(spend(kit, {"X-TENANT-ID": "acme", "x-uSeR-iD": "ann"})) == ("acme", "ann")
    assert role(kit, {"X-User-Role": "user"}) == "user"


@pytest.mark.parametrize("name", ["X-Tenant-Id", "X-User-Id", "X-User-Role"])
@pytest.mark.parametrize("value", ["", " ", "acme,globex", "acme, acme", "a b", "a/b", "a#b", "ü", "x" * 129, "a\n"])
def test_a_header_that_names_nobody(name: str, value: str) -> None:
    problem = spend(MemoryKit(), {name: value}).problem(400, "invalid_request")
    assert problem["errors"][0]["where"] == f"header {name}"


# ---- jwt ----


def claims(**values: Any) -> Any:
    return {"jwt": {"claims": values, "scopes": None}}


def test_a_jwt_says_who_it_is() -> None:
    kit = MemoryKit(identity="jwt")
    known = claims(tenant_id="acme", sub="auth0|42", role="writer")
    assert who(spend(kit, {"X-Tenant-Id": "globex", "X-User-Id": "root"}, known)) == ("acme", "auth0|42")
    assert role(kit, {"X-User-Role": "admin"}, known) == "writer"
    assert role(kit, {"X-User-Role": "admin"}, claims(tenant_id="acme", sub="ann")) == "user"


def test_the_names_of_the_claims_are_settings() -> None:
    kit = MemoryKit(identity="jwt", jwt_tenant_claim="custom:org", jwt_user_claim="email", jwt_role_claim="custom:role")
    known = claims(**{"custom:org": "acme", "email": "ann@acme.example", "custom:role": "writer", "sub": "x"})
    assert who(spend(kit, None, known)) == ("acme", "ann@acme.example")
    assert role(kit, None, known) == "writer"


@pytest.mark.parametrize(
    "authorizer",
    [
        None,
        {},
        {"jwt": None},
        {"jwt": {}},
        claims(),
        claims(tenant_id="acme"),
        claims(sub="ann"),
        claims(tenant_id="", sub="ann"),
        claims(tenant_id="acme", sub="a b"),
        claims(tenant_id="!deployment", sub="ann"),
        claims(tenant_id="acme!evals", sub="ann"),
        claims(tenant_id=["acme"], sub="ann"),
        claims(tenant_id="[acme]", sub="ann"),
        claims(tenant_id="acme", sub="[ann]"),
        claims(tenant_id="acme", sub="[ann bob]"),
        claims(tenant_id="acme", sub="x" * 129),
        claims(tenant_id="acme", sub="ann", role=""),
        claims(tenant_id="acme", sub="ann", role="[admin user]"),
        claims(tenant_id="acme", sub="ann", role="[staff sales]"),
        claims(tenant_id="acme", sub="ann", role="[]"),
        claims(tenant_id="acme", sub="ann", role=f"[{'x' * 65}]"),
        claims(tenant_id="acme", sub="ann", role={"admin": True}),
        claims(tenant_id="acme", sub="ann", role="x" * 65),
        {"iam": {"userArn": USER}},
    ],
)
def test_a_jwt_that_does_not_say_it(authorizer: Any) -> None:
    spend(MemoryKit(identity="jwt"), NAMED, authorizer).problem(401, "unauthenticated")


DESCRIBED = {"user", "writer", "admin"}
OTHERS = st.lists(st.text("abcxyz-_:.", min_size=1, max_size=12).filter(lambda name: name not in DESCRIBED), max_size=4)


@given(described=st.sampled_from(sorted(DESCRIBED)), others=OTHERS, place=st.integers(0, 4))
def test_of_several_roles_it_is_the_one_that_the_policy_describes(
    described: str, others: list[str], place: int
) -> None:
    """Groups come as a list, and through API Gateway as its text."""
    claim = f"[{' '.join([*others[:place], described, *others[place:], described])}]"
    kit = MemoryKit(identity="jwt")
    assert role(kit, None, claims(tenant_id="acme", sub="ann", role=claim)) == described


@given(names=st.lists(st.sampled_from(sorted(DESCRIBED)), min_size=2, max_size=3, unique=True), others=OTHERS)
def test_of_two_that_it_describes_neither_is_guessed(names: list[str], others: list[str]) -> None:
    known = claims(tenant_id="acme", sub="ann", role=f"[{' '.join([*others, *names])}]")
    problem = spend(MemoryKit(identity="jwt"), None, known).problem(401, "unauthenticated")
    assert "more than one" in problem["detail"]


def test_a_role_alone_in_a_list_is_that_role() -> None:
    kit = MemoryKit(identity="jwt")
    assert role(kit, None, claims(tenant_id="acme", sub="ann", role="[admin]")) == "admin"
    assert role(kit, None, claims(tenant_id="acme", sub="ann", role="[stranger]")) == "stranger", (
        "as text would have it"
    )


# ---- iam ----


def signed(arn: str) -> Any:
    return {"iam": {"userArn": arn, "accountId": "123456789012"}}


@pytest.mark.parametrize("arn", [SESSION, USER, ROLE])
def test_a_trusted_backend_names_tenant_and_user(arn: str) -> None:
    kit = MemoryKit(identity="iam", trusted_principals=(ROLE, USER))
    assert who(spend(kit, NAMED, signed(arn))) == ("acme", "ann")
    assert role(kit, NAMED, signed(arn)) == "user"
    assert role(kit, {**NAMED, "X-User-Role": "admin"}, signed(arn)) == "admin"


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sts::123456789012:assumed-role/other/backend",
        "arn:aws:sts::999999999999:assumed-role/backend/i-0123",
        "arn:aws-cn:sts::123456789012:assumed-role/backend/i-0123",
        "arn:aws:sts::123456789012:assumed-role/backend",
        "arn:aws:sts::123456789012:assumed-role/backend/x/y",
        "arn:aws:sts::123456789012:assumed-role/Backend/i-0123",
        "arn:aws:sts::123456789012:federated-user/backend",
        "arn:aws:iam::123456789012:user/backend",
        "arn:aws:iam::123456789012:user/deployer2",
        "arn:aws:iam::123456789012:root",
        f"{ROLE}/more",
        "backend",
    ],
)
def test_others_may_not(arn: str) -> None:
    kit = MemoryKit(identity="iam", trusted_principals=(ROLE, USER))
    spend(kit, NAMED, signed(arn)).problem(403, "forbidden")


def test_without_a_list_nobody_is_trusted() -> None:
    spend(MemoryKit(identity="iam"), NAMED, signed(ROLE)).problem(403, "forbidden")


@pytest.mark.parametrize(
    "authorizer", [None, {}, {"iam": None}, {"iam": {}}, {"iam": {"userArn": ""}}, claims(sub="x")]
)
def test_an_unsigned_request(authorizer: Any) -> None:
    spend(MemoryKit(identity="iam", trusted_principals=(ROLE,)), NAMED, authorizer).problem(401, "unauthenticated")


@pytest.mark.parametrize("left_out", ["X-Tenant-Id", "X-User-Id"])
def test_a_trusted_backend_has_to_say_for_whom(left_out: str) -> None:
    kit = MemoryKit(identity="iam", trusted_principals=(ROLE,))
    said = {name: value for name, value in NAMED.items() if name != left_out}
    spend(kit, said, signed(ROLE)).problem(401, "unauthenticated")
    spend(kit, {**said, left_out: ""}, signed(ROLE)).problem(400, "invalid_request")
