"""Tokens: nothing but what was signed for the same purpose verifies, to the letter."""

from __future__ import annotations

import string

import pytest

from turnkeeper.adapters.tokens import SignedTokens, StreamTokens
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import ContinuationExpired, Unauthenticated
from turnkeeper.core.reading import Reading

CLAIMS = Continuation(tenant_id="acme", user_id="u1", session_id="ses_1", turn=1, seq=3)
TOKENS = SignedTokens(lambda: ["current", "previous"])
READS = Reading(tenant_id="acme", user_id="u1", role="user", session_id="ses_1")
READERS = StreamTokens(lambda: ["current", "previous"])


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


def test_a_token_of_one_purpose_is_none_of_the_other() -> None:
    assert READERS.verify(READERS.sign(READS)) == READS
    with pytest.raises(Unauthenticated):
        TOKENS.verify(READERS.sign(READS))
    with pytest.raises(Unauthenticated):
        READERS.verify(TOKENS.sign(CLAIMS))


def test_each_is_too_old_in_its_own_words() -> None:
    with pytest.raises(ContinuationExpired, match="send the next input"):
        SignedTokens(lambda: ["current"], valid_seconds=-1).verify(TOKENS.sign(CLAIMS))
    with pytest.raises(Unauthenticated, match="ask for another"):
        StreamTokens(lambda: ["current"], valid_seconds=-1).verify(READERS.sign(READS))
