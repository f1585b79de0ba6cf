"""Tokens of the gateway: who may spend whose money through it, until when.

A token is a purse. Its one item says whose it is and counts what it spent, so that a token that was revoked admits no
further call, whatever a process remembers of it. Of the secret the table has a hash only.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from turnkeeper.core.errors import Forbidden, SessionNotFound, Unauthenticated
from turnkeeper.core.ledger import Payer, iso
from turnkeeper.ports import Clock, Ids
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.purses import Purse, Spent
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import ABSENT, Cond, ConditionFailed, Item, Key, Put, Table, Update

#: What every token begins with, so that people and scanners of secrets know one.
PREFIX = "tkgw"
ID_PREFIX = "gwt_"
#: What the table takes as a key at most, in bytes.
_MAX_KEY = 2_048


@dataclass(frozen=True, slots=True)
class GatewayToken:
    """What is known of a token."""

    tenant_id: str
    id: str
    user_id: str
    label: str | None
    task_nanousd: int | None
    created_at: str
    created_by: str
    #: ``None``: it is valid until it is revoked.
    expires_at: str | None
    revoked: bool
    spent: Spent

    @property
    def purse(self) -> Purse:
        return Purse(Payer(self.tenant_id, self.user_id, None, self.id), self.task_nanousd)

    def check(self, now: datetime) -> None:
        """Raises Forbidden where it is valid no more."""
        if self.revoked:
            raise Forbidden("this token was revoked")
        if self.expires_at is not None and self.expires_at <= iso(now):
            raise Forbidden(f"this token expired at {self.expires_at}")

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> GatewayToken:
        owner = keys.session_of_pk(item["pk"])
        assert owner is not None, "tokens have partitions as sessions have"
        return cls(
            tenant_id=owner[0],
            id=owner[1],
            user_id=item["user_id"],
            label=item.get("label"),
            task_nanousd=item.get("task_nanousd"),
            created_at=item["created_at"],
            created_by=item["created_by"],
            expires_at=item.get("expires_at"),
            revoked=bool(item["closed"]),
            spent=Spent.of(item),
        )


class GatewayTokens:
    def __init__(self, table: Table, tenants: Tenants, clock: Clock, ids: Ids) -> None:
        self._table = table
        self._tenants = tenants
        self._clock = clock
        self._ids = ids

    def mint(
        self,
        tenant_id: str,
        user_id: str,
        *,
        actor: str,
        task_nanousd: int | None = None,
        valid: timedelta | None = None,
        label: str | None = None,
    ) -> tuple[str, GatewayToken]:
        """A new token, and the secret text that its holder shows. The text is nowhere else: who loses it needs another.
        Goes onto the tenant's audit chain, in the same write."""
        now = self._clock.now()
        token_id = ID_PREFIX + self._ids.session_id().removeprefix("ses_").lower()
        secret = self._ids.token()
        facts: Item = {
            "user_id": user_id,
            "label": label,
            "task_nanousd": task_nanousd,
            "expires_at": iso(now + valid) if valid is not None else None,
        }
        item: Item = {
            **{name: value for name, value in facts.items() if value is not None},
            "secret_sha256": _digest(secret),
            "created_at": iso(now),
            "created_by": actor,
            "closed": False,
            **{"spent": 0, "reserved": 0, "committed": 0},
            "status_key": keys.TOKENS,
            "created_key": f"{iso(now)}#{token_id}",
        }
        key = keys.purse_key(tenant_id, token_id)
        detail = {"action": "gateway_token", "token": token_id, **{n: v for n, v in facts.items() if v is not None}}
        self._tenants.audit(tenant_id, "operator_action", actor, detail, deed=Put(key, item, (ABSENT,)))
        text = f"{PREFIX}.{_encoded(tenant_id)}.{token_id}.{secret}"
        return text, GatewayToken.of({**item, "pk": key.pk})

    def check(self, text: str) -> GatewayToken:
        """Whose token this is; one read.

        Raises:
            Unauthenticated: it is none of ours.
        """
        parts = text.split(".")
        if len(parts) != 4 or parts[0] != PREFIX:
            raise Unauthenticated("this is no token of the gateway")
        try:
            tenant_id = urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode()
        except ValueError as error:
            raise Unauthenticated("this is no token of the gateway") from error
        key = keys.purse_key(tenant_id, parts[2])
        can_be = tenant_id and parts[2] and len(key.pk.encode()) <= _MAX_KEY
        item = self._table.get(key) if can_be else None
        known = str(item.get("secret_sha256", "")) if item is not None else ""
        if item is None or not hmac.compare_digest(known, _digest(parts[3])):
            raise Unauthenticated("this is no token of the gateway")
        return GatewayToken.of(item)

    def all(self, tenant_id: str | None = None) -> Iterator[GatewayToken]:
        """Newest first; of all tenants where none is named."""
        cursor: str | None = None
        while True:
            page = self._table.query(keys.TOKENS, index="by_status", limit=100, descending=True, cursor=cursor)
            mine = [Key(item["pk"], item["sk"]) for item in page.items if _is_of(item, tenant_id)]
            yield from map(GatewayToken.of, self._table.batch_get(mine))
            if (cursor := page.cursor) is None:
                return

    def find(self, token_id: str, tenant_id: str | None = None) -> GatewayToken:
        """Raises SessionNotFound."""
        if tenant_id is not None:
            item = self._table.get(keys.purse_key(tenant_id, token_id))
            if item is not None and "secret_sha256" in item:
                return GatewayToken.of(item)
        else:
            for token in self.all():
                if token.id == token_id:
                    return token
        raise SessionNotFound(f"there is no token {token_id}")

    def revoke(self, token: GatewayToken, *, actor: str) -> GatewayToken:
        """No call is admitted with it any more; those in flight are settled. Doing it twice does no harm."""
        key = keys.purse_key(token.tenant_id, token.id)
        closing = Update(key, set={"closed": True}, conditions=(Cond("closed", "=", False),))
        detail = {"action": "gateway_token_revoked", "token": token.id}
        with suppress(ConditionFailed):  # It was revoked before.
            self._tenants.audit(token.tenant_id, "operator_action", actor, detail, deed=closing)
        return self.find(token.id, token.tenant_id)


def _is_of(item: Item, tenant_id: str | None) -> bool:
    owner = keys.session_of_pk(item["pk"])
    return owner is not None and tenant_id in (None, owner[0])


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")
