"""Tokens of the kit: signed with HMAC-SHA256 by itsdangerous; the current and the previous key verify.

Each purpose has a salt of its own, which the key is derived with: a token of one purpose is none of another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode
from pydantic import ValidationError

from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import ContinuationExpired, TurnkeeperError, Unauthenticated
from turnkeeper.core.reading import Reading
from turnkeeper.core.session import Frozen

DAY_SECONDS = 86_400

S = TypeVar("S", bound=Frozen)


class _Signed(Generic[S]):
    """``keys`` supplies the keys in force, the current one first: it is asked each time, so that a rotation takes
    effect when its supplier notices it."""

    purpose: ClassVar[str]
    says: type[S]
    default_seconds: ClassVar[int]
    #: What is raised once a token is too old, and what helps then.
    expired: ClassVar[type[TurnkeeperError]]
    then: ClassVar[str]

    def __init__(self, keys: Callable[[], Sequence[str]], *, valid_seconds: int | None = None) -> None:
        self._keys = keys
        self._valid_seconds = self.default_seconds if valid_seconds is None else valid_seconds

    @property
    def valid_seconds(self) -> int:
        return self._valid_seconds

    def sign(self, said: S) -> str:
        claims = said.model_dump(mode="json")
        token = self._serializer().dumps([claims[name] for name in self.says.model_fields])
        return token if isinstance(token, str) else token.decode()

    def verify(self, token: str) -> S:
        try:
            _check_spelling(token)
            values = self._serializer().loads(token, max_age=self._valid_seconds)
            return self.says.model_validate(dict(zip(self.says.model_fields, values, strict=True)))
        except SignatureExpired as expired:
            raise self.expired(f"this {self.purpose} token is too old; {self.then}") from expired
        except (BadData, ValidationError, ValueError, TypeError) as bad:
            raise Unauthenticated(f"this is no {self.purpose} token of ours") from bad

    def _serializer(self) -> URLSafeTimedSerializer:
        # itsdangerous signs with the last key of the list and verifies with any.
        return URLSafeTimedSerializer(
            list(reversed(self._keys())),
            salt=f"turnkeeper.{self.purpose}/v1",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )


class SignedTokens(_Signed[Continuation]):
    purpose, says, default_seconds = "continuation", Continuation, DAY_SECONDS
    expired, then = ContinuationExpired, "send the next input instead"


class StreamTokens(_Signed[Reading]):
    """Short-lived, since they stand in addresses; whoever reads on asks for another."""

    purpose, says, default_seconds = "stream", Reading, 600
    expired, then = Unauthenticated, "ask for another"


class RequestMarks:
    """What the table remembers a request by. Without the keys nobody can try from it what was asked, however short that
    was: it stays for its day also where the session was erased."""

    _PURPOSE = b"turnkeeper/request/v1\0"

    def __init__(self, keys: Callable[[], Sequence[str]]) -> None:
        self._keys = keys

    def of(self, request: bytes) -> tuple[str, ...]:
        """By each of the keys in force, the current one first."""
        return tuple(hmac.digest(key.encode(), self._PURPOSE + request, "sha256").hex() for key in self._keys())


def _check_spelling(token: str) -> None:
    """Raises ValueError where the signature is not spelled as we do. Decoding base64 is lenient: it skips signs,
    and in the last one some bits do not count. So a token that was altered there would verify."""
    signature = token.rpartition(".")[2]
    if base64_encode(base64_decode(signature)).decode() != signature:
        raise ValueError("not the signature's own spelling")
