"""Rollouts, and the versions that they are between, of all tenants together: what agents' authors wrote, nothing of
users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import datetime

from turnkeeper.core.ledger import iso
from turnkeeper.core.rollout import Rollout
from turnkeeper.core.session import Spec
from turnkeeper.core.versions import version_of
from turnkeeper.runtime.store import codec, contents, keys
from turnkeeper.table import ABSENT, Blobs, Cond, ConditionFailed, Put, Table, Update


class RolloutStore:
    def __init__(self, table: Table, blobs: Blobs) -> None:
        self._table = table
        self._blobs = blobs

    def get(self, agent: str) -> Rollout | None:
        found = self._table.batch_get([keys.rollout_key(agent)])
        if not found:
            return None
        known = {field.name for field in fields(Rollout)}
        values = {name: value for name, value in found[0].items() if name in known}
        return Rollout(**{**values, "tenants": tuple(values.get("tenants") or ())})

    def put(self, before: Rollout | None, after: Rollout) -> Put:
        """What puts it into force, on the condition that nobody else changed it meanwhile: for whoever audits it."""
        unchanged = ABSENT if before is None else Cond("number", "=", before.number)
        item = {name: value for name, value in asdict(after).items() if value is not None}
        return Put(keys.rollout_key(after.agent), {**item, "tenants": list(after.tenants)}, (unchanged,))

    def keep(self, agent: str, spec: Spec, now: datetime, *, deployed: bool) -> str:
        """Have a version where rollouts find it, with when it was last found to be deployed; its name."""
        version = version_of(spec)
        item = contents.pack(spec.model_dump(mode="json"), self._blobs, keys.rollout_blob_prefix(agent))
        key = keys.rollout_version_key(agent, version)
        since = {"deployed_at": iso(now)} if deployed else {}
        try:
            self._table.write([Put(key, {**item, "version": version, "first_seen": iso(now), **since}, (ABSENT,))])
        except ConditionFailed:
            if since:
                self._table.write([Update(key, set=since)])
        return version

    def spec(self, agent: str, version: str) -> Spec | None:
        """``None`` where it is not there, or its contents are gone."""
        found = self._table.batch_get([keys.rollout_version_key(agent, version)])
        try:
            return codec.spec_of(found[0], self._blobs) if found else None
        except contents.Lost:
            return None

    def deployed(self, agent: str) -> Iterator[tuple[str, str]]:
        """When a process that has it deployed last began to use it, and the version."""
        for item in self._table.query_all(keys.rollout_pk(agent), first="VERSION#", last="VERSION#~"):
            if "deployed_at" in item:
                yield item["deployed_at"], item["version"]

    def versions(self, agent: str) -> Iterator[tuple[str, str]]:
        """Every version that was ever seen, with when it first was."""
        for item in self._table.query_all(keys.rollout_pk(agent), first="VERSION#", last="VERSION#~"):
            yield item["version"], item["first_seen"]
