"""Continuation tokens: signed with HMAC-SHA256 by itsdangerous; the current and the previous key verify."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode
from pydantic import ValidationError

from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import ContinuationExpired, Unauthenticated

DAY_SECONDS = 86_400


class SignedTokens:
    """``keys`` supplies the keys in force, the current one first: it is asked each time, so that a rotation takes
    effect when its supplier notices it."""

    def __init__(self, keys: Callable[[], Sequence[str]], *, valid_seconds: int = DAY_SECONDS) -> None:
        self._keys = keys
        self._valid_seconds = valid_seconds

    def sign(self, continuation: Continuation) -> str:
        claims = continuation.model_dump(mode="json")
        token = self._serializer().dumps([claims[name] for name in Continuation.model_fields])
        return token if isinstance(token, str) else token.decode()

    def verify(self, token: str) -> Continuation:
        try:
            _check_spelling(token)
            values = self._serializer().loads(token, max_age=self._valid_seconds)
            return Continuation.model_validate(dict(zip(Continuation.model_fields, values, strict=True)))
        except SignatureExpired as expired:
            raise ContinuationExpired("this continuation token is too old; send the next input instead") from expired
        except (BadData, ValidationError, ValueError, TypeError) as bad:
            raise Unauthenticated("this is no continuation token of ours") from bad

    def _serializer(self) -> URLSafeTimedSerializer:
        # itsdangerous signs with the last key of the list and verifies with any.
        return URLSafeTimedSerializer(
            list(reversed(self._keys())),
            salt="turnkeeper.continuation/v1",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )


def _check_spelling(token: str) -> None:
    """Raises ValueError where the signature is not spelled as we do. Decoding base64 is lenient: it skips signs,
    and in the last one some bits do not count. So a token that was altered there would verify."""
    signature = token.rpartition(".")[2]
    if base64_encode(base64_decode(signature)).decode() != signature:
        raise ValueError("not the signature's own spelling")
