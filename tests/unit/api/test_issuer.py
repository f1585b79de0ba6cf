"""Tokens of an issuer: what counts, what does not, and what happens while its keys cannot be had."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.api.asgi import application
from functions.api.issuer import Issuer
from tests.support.asgi import served
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import Unauthenticated, Unavailable
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.needs import MissingSetting

ISSUER = "https://login.example.com/"
KEYS_AT = "https://login.example.com/keys"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
CLAIMS: Mapping[str, Any] = {"iss": ISSUER, "aud": "turnkeeper", "sub": "ann", "tenant_id": "acme"}


def published(name: str, key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": name, "use": "sig", **more}


class Publisher:
    """What an issuer publishes, and how often it was asked."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.down = False

    def __call__(self, address: str) -> Any:
        self.asked += 1
        if self.down:
            raise OSError("nobody is there")
        if address == KEYS_AT:
            return {"keys": self.keys}
        assert address == f"{ISSUER}.well-known/openid-configuration"
        return {"issuer": ISSUER, "jwks_uri": KEYS_AT}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    said = {**CLAIMS, "exp": int(time.time()) + 300, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key, algorithm, headers={} if kid is None else {"kid": kid})


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(
        published("one", RSA, "RS256"), published("curve", EC, "ES256"), published("edwards", EDWARDS, "EdDSA")
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(publisher: Publisher, clock: ManualClock) -> Issuer:
    return Issuer(ISSUER, ["turnkeeper", "another"], clock, publisher)


@pytest.mark.parametrize(
    "made",
    [
        lambda: token(),
        lambda: token(algorithm="RS512"),
        lambda: token(algorithm="PS256"),
        lambda: token(EC, "ES256", "curve"),
        lambda: token(EDWARDS, "EdDSA", "edwards"),
        lambda: token(kid=None),
        lambda: token(aud=["else", "another"]),
        lambda: token(aud=None, client_id="turnkeeper"),
        lambda: token(exp=int(time.time()) - 30),
        lambda: token(nbf=int(time.time()) + 30),
        lambda: token(iat=int(time.time()) + 30),
    ],
)
def test_what_counts(issuer: Issuer, made: Callable[[], str]) -> None:
    sent = made()
    assert issuer.claims(f"Bearer {sent}")["tenant_id"] == "acme"
    assert issuer.claims(f"bearer  {sent} ")["sub"] == "ann"


def unsigned() -> str:
    return jwt.encode({**CLAIMS, "exp": int(time.time()) + 300}, None, "none", headers={"kid": "one"})  # type: ignore[arg-type]


def signed_with_the_public_key() -> str:
    """The old trick: what everybody knows as a secret that is shared."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": "one"}, {**CLAIMS, "exp": int(time.time()) + 300})
    ]
    message = b".".join(parts)
    mac = jwt.get_algorithm_by_name("HS256")
    signature = mac.sign(message, pem)
    return (message + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def altered(made: str, **claims: Any) -> str:
    head, body, signature = made.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    body = base64.urlsafe_b64encode(json.dumps({**said, **claims}).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "made",
    [
        lambda: unsigned(),
        lambda: signed_with_the_public_key(),
        lambda: token(OTHER),
        lambda: token(OTHER, kid=None),
        lambda: token(WEAK, kid="weak"),
        lambda: token(kid="unknown"),
        lambda: token(kid="curve"),
        lambda: token(EC, "ES256", "one"),
        lambda: token(RSA, "RS256", "encrypts"),
        lambda: token(RSA, "RS384", "only-rs256"),
        lambda: altered(token(), tenant_id="globex"),
        lambda: altered(token(), exp=int(time.time()) + 9_999),
        lambda: token(iss="https://else.example.com/"),
        lambda: token(iss="https://login.example.com"),
        lambda: token(iss=None),
        lambda: token(aud="else"),
        lambda: token(aud=None),
        lambda: token(aud="else", client_id="turnkeeper"),
        lambda: token(aud={"turnkeeper": 1}),
        lambda: token(exp=None),
        lambda: token(exp=int(time.time()) - 90),
        lambda: token(nbf=int(time.time()) + 90),
        lambda: token(more="x" * 20_000),
        lambda: "",
        lambda: "x",
        lambda: "a.b.c",
        lambda: "é.é.é",
        lambda: token()[:-2],
    ],
)
def test_what_does_not_count(issuer: Issuer, publisher: Publisher, made: Callable[[], str]) -> None:
    publisher.keys += [
        published("weak", WEAK, "RS256"),
        published("encrypts", RSA, "RS256", use="enc"),
        published("only-rs256", RSA, "RS256", alg="RS256"),
    ]
    with pytest.raises(Unauthenticated):
        issuer.claims(f"Bearer {made()}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", f"Token {token()}"])
def test_nothing_is_no_token(issuer: Issuer, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        issuer.claims(header)


# ---- its keys ----


def test_keys_are_asked_for_once(issuer: Issuer, publisher: Publisher) -> None:
    for _ in range(5):
        issuer.claims(f"Bearer {token()}")
    assert publisher.asked == 2  # where they are, and they themselves


def test_a_new_key_counts_at_once_and_an_old_one_no_longer(
    issuer: Issuer, publisher: Publisher, clock: ManualClock
) -> None:
    issuer.claims(f"Bearer {token()}")
    publisher.keys = [published("two", OTHER, "RS256")]
    clock.advance(15)
    issuer.claims(f"Bearer {token(OTHER, kid='two')}")
    with pytest.raises(Unauthenticated):
        issuer.claims(f"Bearer {token()}")


def test_a_key_that_is_withdrawn_stops_counting(issuer: Issuer, publisher: Publisher, clock: ManualClock) -> None:
    issuer.claims(f"Bearer {token()}")
    publisher.keys = publisher.keys[1:]
    clock.advance(700)
    with pytest.raises(Unauthenticated):
        issuer.claims(f"Bearer {token()}")


def test_tokens_with_keys_that_nobody_knows_do_not_make_us_ask_again_and_again(
    issuer: Issuer, publisher: Publisher, clock: ManualClock
) -> None:
    for number in range(50):
        with pytest.raises(Unauthenticated):
            issuer.claims(f"Bearer {token(kid=f'made-up-{number}')}")
        clock.advance(0.1)
    assert publisher.asked == 2


def test_while_the_issuer_is_out_of_reach_known_keys_count(
    issuer: Issuer, publisher: Publisher, clock: ManualClock
) -> None:
    issuer.claims(f"Bearer {token()}")
    publisher.down = True
    for _ in range(5):
        clock.advance(3_600)
        assert issuer.claims(f"Bearer {token()}")["sub"] == "ann"
    clock.advance(2 * 3_600)
    with pytest.raises(Unavailable):
        issuer.claims(f"Bearer {token()}")
    publisher.down = False
    clock.advance(15)
    assert issuer.claims(f"Bearer {token()}")["sub"] == "ann"


@pytest.mark.parametrize(
    "answers",
    [
        lambda _: (_ for _ in ()).throw(ValueError("no JSON")),
        lambda _: [],
        lambda _: {"issuer": "https://else.example.com/", "jwks_uri": KEYS_AT},
        lambda _: {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
        lambda _: {"issuer": ISSUER, "jwks_uri": KEYS_AT, "keys": 5},
    ],
)
def test_whoever_publishes_no_keys_is_out_of_reach(answers: Callable[[str], Any], clock: ManualClock) -> None:
    with pytest.raises(Unavailable):
        Issuer(ISSUER, ["turnkeeper"], clock, answers).claims(f"Bearer {token()}")


# ---- in the application ----


def test_the_application_takes_tokens(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.api.issuer._fetch", publisher)
    kit = MemoryKit(identity="jwt", jwt_issuer=ISSUER, jwt_audience=("turnkeeper",))
    with served(application(kit)) as door:
        nobody = Caller(door, tenant="globex", user="eve", role="admin")  # in headers, which say nothing here
        nobody.get("/v1/spend").problem(401, "unauthenticated")
        by_token = nobody.but(headers={"authorization": f"Bearer {token(role=['user'])}"})
        turn = by_token.post("/v1/sessions", {"agent": "plain", "input": "hello"}).ok()
        session = by_token.get(f"/v1/sessions/{turn['session_id']}").ok()
        assert (session["tenant_id"], session["user_id"]) == ("acme", "ann")
        by_number = nobody.but(headers={"authorization": f"Bearer {token(tenant_id=7)}"})
        by_number.get("/v1/spend").ok()
        nobody.get("/v1/health").ok()
    kit.join()


@pytest.mark.parametrize("settings", [{}, {"jwt_issuer": ISSUER}, {"jwt_audience": ("turnkeeper",)}])
def test_without_issuer_or_audience_there_is_no_application(settings: dict[str, Any]) -> None:
    with pytest.raises(MissingSetting):
        application(MemoryKit(identity="jwt", **settings))
