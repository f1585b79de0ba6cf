"""Continuation tokens: nothing but what was signed verifies, to the letter."""

from __future__ import annotations

import string

import pytest

from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import Unauthenticated

CLAIMS = Continuation(tenant_id="acme", user_id="u1", session_id="ses_1", turn=1, seq=3)
TOKENS = SignedTokens(lambda: ["current", "previous"])


def test_what_was_signed_verifies_also_after_a_rotation() -> None:
    assert TOKENS.verify(TOKENS.sign(CLAIMS)) == CLAIMS
    assert TOKENS.verify(SignedTokens(lambda: ["previous"]).sign(CLAIMS)) == CLAIMS
    with pytest.raises(Unauthenticated):
        TOKENS.verify(SignedTokens(lambda: ["older"]).sign(CLAIMS))


def test_no_other_spelling_of_a_token_verifies() -> None:
    """Also where base64 reads the same from it: in the signature's last character, two bits do not count."""
    token = TOKENS.sign(CLAIMS)
    altered = {
        token[:place] + other + token[place + 1 :]
        for place in range(len(token))
        for other in string.ascii_letters + string.digits + "-_."
        if other != token[place]
    }
    altered |= {token + more for more in ("=", "==", "!", " ", "\n", "é", "A", ".")}
    altered |= {token[:place] + "!" + token[place:] for place in range(len(token))}
    for bad in altered:
        with pytest.raises(Unauthenticated):
            TOKENS.verify(bad)
