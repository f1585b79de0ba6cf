"""The tokens of an OpenID Connect issuer, checked here: for a front door that no API Gateway stands in front of.

What is checked is what API Gateway's authorizer checks: the signature, by a key that the issuer publishes; the issuer;
the audience (of a token without one, the client that it was given to); the times, give or take a minute. Beyond that,
only signatures with a public key count, of the kind that the key is for.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import jwt

from turnkeeper.core.errors import Unauthenticated, Unavailable
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

#: By the kind of key that verifies them. None has a secret in common with the issuer.
_ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
_SKEW_SECONDS = 60
_MAX_TOKEN_LENGTH = 16_384

#: How long published keys are taken without asking again, and how long while the issuer cannot be asked.
_FRESH_SECONDS = 600
_KEPT_SECONDS = 6 * 3_600
#: The least between two questions, however many tokens name keys that nobody knows.
_PAUSE_SECONDS = 10
_TIMEOUT_SECONDS = 3
_MAX_BYTES = 1_000_000

#: Gets a JSON document by its address. Raises OSError or ValueError.
Fetch = Callable[[str], Any]


class Issuer:
    """Thread-safe. The issuer's keys are asked for with the first token, and kept."""

    def __init__(self, issuer: str, audience: Sequence[str], clock: Clock, fetch: Fetch | None = None) -> None:
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._clock = clock
        self._fetch = fetch or _fetch
        self._asking = threading.Lock()
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._read_at = self._asked_at = float("-inf")

    def claims(self, authorization: str | None) -> Mapping[str, Any]:
        """What the bearer token in an Authorization header says.

        Raises:
            Unauthenticated: there is none that counts.
            Unavailable: the issuer cannot be asked for its keys.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("The request has no bearer token.")
        if len(token) > _MAX_TOKEN_LENGTH:
            raise Unauthenticated("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            key = jwt.PyJWK(dict(self._key(header)), header["alg"])
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                issuer=self._issuer,
                leeway=_SKEW_SECONDS,
                options={"require": ["exp", "iss"], "verify_aud": False, "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token does not count: {error}") from error
        if not self._audience & set(_audience(claims)):
            raise Unauthenticated("The token is for another audience.")
        return claims

    def _key(self, header: Mapping[str, Any]) -> Mapping[str, Any]:
        """The published key that a token says it is signed with."""
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
            raise Unauthenticated("The token is signed in a way that is not taken.")
        key_id = header.get("kid")
        age = self._clock.monotonic() - self._read_at
        if age > _FRESH_SECONDS or not _fitting(self._keys, algorithm, key_id):
            self._ask()
            age = self._clock.monotonic() - self._read_at
        if age > _KEPT_SECONDS:
            raise Unavailable(
                "The issuer of the tokens cannot be asked for its keys.", retry_after_seconds=_PAUSE_SECONDS
            )
        fitting = _fitting(self._keys, algorithm, key_id)
        if len(fitting) != 1:
            raise Unauthenticated("The token is signed with no key of its issuer.")
        return fitting[0]

    def _ask(self) -> None:
        """Read the issuer's keys, unless that was just done or is being done; in vain, those at hand stay."""
        if not self._asking.acquire(blocking=not self._keys):
            return
        try:
            if self._clock.monotonic() - self._asked_at < _PAUSE_SECONDS:
                return
            self._asked_at = self._clock.monotonic()
            self._keys = self._published()
            self._read_at = self._clock.monotonic()
        except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            logger.warning("the keys of the issuer cannot be read now: %s", type(error).__name__)
        finally:
            self._asking.release()

    def _published(self) -> Sequence[Mapping[str, Any]]:
        described = self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(described, dict) or described.get("issuer") != self._issuer:
            raise ValueError("what is published there is of another issuer")
        address = str(described.get("jwks_uri"))
        if not address.startswith("https://" if self._issuer.startswith("https://") else ("https://", "http://")):
            raise ValueError("its keys are published where anybody could change them on their way")
        published = self._fetch(address)
        keys = published.get("keys") if isinstance(published, dict) else None
        if not isinstance(keys, list):
            raise ValueError("no keys are published there")
        return [key for key in keys if isinstance(key, dict)]


def _fitting(keys: Sequence[Mapping[str, Any]], algorithm: str, key_id: object) -> list[Mapping[str, Any]]:
    """Keys that may have signed a token. One that names none can only be of the only key of its kind."""
    kind, curve = _ALGORITHMS[algorithm]
    return [
        key
        for key in keys
        if key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (key_id is None or key.get("kid") == key_id)
    ]


def _audience(claims: Mapping[str, Any]) -> list[str]:
    told = claims.get("aud") or claims.get("client_id")
    listed = told if isinstance(told, list) else [told]
    return [one for one in listed if isinstance(one, str)]


def _fetch(address: str) -> Any:
    """No redirects: who publishes keys says where they are."""
    with httpx2.stream("GET", address, timeout=_TIMEOUT_SECONDS, headers={"accept": "application/json"}) as response:
        response.raise_for_status()
        body = b""
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_BYTES:
                raise ValueError("it is too large")
    return json.loads(body)
