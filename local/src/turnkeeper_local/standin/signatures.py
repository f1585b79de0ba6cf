"""Signatures of thinking blocks: issued here, and the only ones accepted back.

The key is fixed so that a conversation can go on after a restart. It protects nothing; it only notices a thinking
block that was changed on the way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_KEY = b"stand-in model, thinking blocks"
_DIGEST_BYTES = 32


def _digest(text: str) -> bytes:
    return hmac.new(_KEY, text.encode(), hashlib.sha256).digest()


def sign_thinking(text: str) -> str:
    return base64.b64encode(_digest(text)).decode()


def thinking_is_ours(text: str, signature: str) -> bool:
    return hmac.compare_digest(sign_thinking(text).encode(), signature.encode())


def redact(text: str) -> str:
    """The ``data`` of a redacted_thinking block that hides ``text``."""
    return base64.b64encode(_digest(text) + text.encode()).decode()


def redacted_is_ours(data: str) -> bool:
    try:
        raw = base64.b64decode(data.encode(), validate=True)
        return hmac.compare_digest(raw[:_DIGEST_BYTES], _digest(raw[_DIGEST_BYTES:].decode()))
    except ValueError:
        return False
