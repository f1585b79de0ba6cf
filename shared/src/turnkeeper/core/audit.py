"""What was done, with which tool, by whom: records that are written once and chained, so that tampering shows.

Each record carries the hash of the one before it. The chain of a session starts from a hash that binds the tenant and
the session (a chain cannot be passed off as another's) and its head, the count and the last hash, is kept on the
session item, so that a chain that was cut at its end shows too. Policy changes of a tenant make a chain of their own,
with no session id.

What is hashed is RFC 8785 canonical JSON, so that any language can check it. Numbers are integers only: there is one
way to write an integer, and many to write a float.

Erasing a session takes its arguments away and must leave a chain that verifies. So the hash covers a salted digest of
the arguments, not the arguments: with the salt gone, the digest says nothing. :func:`verify` accepts missing arguments
only in a chain that says itself that it was erased.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import pydantic.dataclasses
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from turnkeeper.core.canonical import MAX_INTEGER, canonical_json, plain_json, without_surrogates
from turnkeeper.core.late import late
from turnkeeper.core.replacing import replace
from turnkeeper.core.tools import Outcome

AuditKind = Literal[
    "tool_call",
    "session_created",
    "grant",
    "version",
    "cap_trip",
    "breaker_trip",
    "cancel",
    "erase",
    "policy_change",
    "operator_action",
    "repair",
    "compaction",
    "rewind",
    "fork",
    "content_lost",
    "rollout",
]
ProblemKind = Literal["altered", "missing", "reordered", "duplicated", "truncated", "foreign", "extra", "head"]

_SCHEMA: Final = "turnkeeper.audit/v1"
_HASH = r"^[0-9a-f]{64}$"


JsonObject = Annotated[dict[str, Any], BeforeValidator(plain_json)]
Digest = Annotated[str, Field(pattern=_HASH)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class AuditRecord:
    """One thing that was done. ``previous_hash``, ``arguments_sha256`` and ``hash`` are set by :func:`chain`.

    ``arguments_redacted`` and ``detail`` are redacted by whoever builds the record. ``detail`` outlives an erasure: it
    holds limits, reasons and names, never contents.
    """

    tenant_id: str
    #: None in the tenant's chain of policy changes.
    session_id: str | None = None
    user_id: str | None = None
    seq: int = Field(ge=1, le=MAX_INTEGER)
    at: datetime
    kind: AuditKind
    #: Who caused it: a principal or an operator; None where it is the session's own user.
    actor: str | None = None
    #: Which runner did it.
    runner: str | None = None
    tool: str | None = None
    tool_use_id: str | None = None
    arguments_redacted: JsonObject | None = None
    #: Random, from the caller; goes away with the arguments.
    arguments_salt: str | None = None
    arguments_sha256: Digest | None = None
    result_bytes: Count | None = None
    #: SHA-256 of ``arguments_salt`` and, behind it, the transcript's ``result_sha256``. Earlier releases put that down
    #: as it is.
    result_sha256: Digest | None = None
    duration_ms: Count | None = None
    outcome: Outcome | None = None
    detail: JsonObject | None = None
    previous_hash: Digest | None = None
    hash: Digest | None = None

    @field_validator("at")
    @classmethod
    def _utc(cls, at: datetime) -> datetime:
        if at.tzinfo is None:
            raise ValueError("needs a time zone")
        return at.astimezone(UTC)

    @field_validator("tenant_id", "session_id", "user_id", "actor", "runner", "tool", "tool_use_id", "arguments_salt")
    @classmethod
    def _no_surrogates(cls, text: str | None) -> str | None:
        return text and without_surrogates(text)


RECORD = late(lambda: TypeAdapter(AuditRecord))


def as_stored(record: AuditRecord) -> dict[str, Any]:
    """The record as plain JSON, as it stands in the table."""
    stored: dict[str, Any] = RECORD.dump_python(record, mode="json", exclude_none=True)
    return stored


class Problem(BaseModel):
    """What is wrong with a chain. ``first`` to ``last`` are the sequence numbers it is about, where known."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    kind: ProblemKind
    first: int | None
    last: int | None
    why: str

    def __str__(self) -> str:
        which = (
            "" if self.first is None else f" {self.first}" if self.first == self.last else f" {self.first}-{self.last}"
        )
        return f"{self.kind}{which}: {self.why}"


def genesis(tenant_id: str, session_id: str | None) -> str:
    """The hash that the first record of a chain follows."""
    return _sha256({"schema": _SCHEMA, "tenant_id": tenant_id, "session_id": session_id})


def chain(previous_hash: str, record: AuditRecord, *, seq: int | None = None) -> AuditRecord:
    """The record as it is stored: bound to the one before it (``genesis`` for the first) and hashed.

    Args:
        seq: its number, where it has none of its own yet.
    """
    arguments = _arguments_digest(record)
    number = record.seq if seq is None else seq
    linked = replace(record, seq=number, previous_hash=previous_hash, arguments_sha256=arguments, hash=None)
    return replace(linked, hash=hash_of(linked))


def hash_of(record: AuditRecord) -> str:
    """The hash that this record must carry. A field that is None is left out: adding one later breaks no chain."""
    body = RECORD.dump_python(record, exclude={"hash", "arguments_redacted", "arguments_salt"}, exclude_none=True)
    body["at"] = record.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return _sha256({"schema": _SCHEMA, **body})


def salted(result_sha256: str, salt: str) -> str:
    """What a record says of a result, by its hash in the transcript: once the salt is gone, nobody can try results
    against it."""
    return hashlib.sha256(f"{salt}{result_sha256}".encode()).hexdigest()


def verify(
    records: Sequence[AuditRecord | Mapping[str, Any]],
    head_count: int,
    head_hash: str,
    *,
    tenant_id: str,
    session_id: str | None,
) -> list[Problem]:
    """What is wrong with a chain, in the order of the sequence numbers; an empty list when nothing is.

    ``records`` come in the order in which they are stored, as models or as the stored mappings. ``tenant_id`` and
    ``session_id`` are what the caller asked for, not what the records say. ``head_count`` and ``head_hash`` come from
    the head item (an empty ``head_hash`` stands for a chain that has not begun).

    Finds every change that leaves the head alone. Whoever can rewrite all records from one on *and* the head is not
    found here: that needs a copy of the head elsewhere (logs, a backup).
    """
    return _Verification(records, head_count, head_hash or genesis(tenant_id, session_id), tenant_id, session_id).run()


class _Verification:
    def __init__(
        self,
        stored: Sequence[AuditRecord | Mapping[str, Any]],
        head_count: int,
        head_hash: str,
        tenant_id: str,
        session_id: str | None,
    ) -> None:
        self.stored = stored
        self.head_count = head_count
        self.head_hash = head_hash
        self.start = genesis(tenant_id, session_id)
        self.owner = (tenant_id, session_id)
        self.problems: list[Problem] = []
        #: The first record of each sequence number.
        self.by_seq: dict[int, AuditRecord] = {}
        #: Sequence numbers that are known to be wrong: their links say nothing more.
        self.bad: set[int] = set()

    def run(self) -> list[Problem]:
        self.read()
        self.contents()
        self.gaps()
        self.links()
        self.head()
        return sorted(self.problems, key=lambda problem: problem.first or 0)

    def add(self, kind: ProblemKind, seq: int | None, why: str, last: int | None = None) -> None:
        self.problems.append(Problem(kind=kind, first=seq, last=last or seq, why=why))

    def read(self) -> None:
        highest = 0
        for raw in self.stored:
            try:
                record = raw if isinstance(raw, AuditRecord) else RECORD.validate_python(raw)
            except ValidationError as error:
                self.unreadable(raw, error)
                continue
            if isinstance(raw, Mapping) and not _as_stored(record, raw):
                self.add("altered", record.seq, "is not written down as records are")
                self.bad.add(record.seq)
            if record.seq in self.by_seq:
                same = record == self.by_seq[record.seq]
                self.add("duplicated", record.seq, "stands there twice" if same else "stands there twice, differently")
                self.bad.update(() if same else (record.seq,))
                continue
            if record.seq < highest:
                self.add("reordered", record.seq, f"stands after record {highest}")
            highest = max(highest, record.seq)
            self.by_seq[record.seq] = record

    def unreadable(self, raw: Any, error: ValidationError) -> None:
        seq = raw.get("seq") if isinstance(raw, Mapping) else None
        where = sorted({".".join(map(str, item["loc"])) or "record" for item in error.errors()})
        number = int(seq) if isinstance(seq, int | Decimal) and seq >= 1 else None
        self.add("altered", number, f"is no audit record: {', '.join(where)}")
        if number is not None:
            self.bad.add(number)

    def contents(self) -> None:
        erasing = any(record.kind == "erase" for record in self.by_seq.values())
        for seq, record in self.by_seq.items():
            if (record.tenant_id, record.session_id) != self.owner:
                self.add("foreign", seq, "belongs to another tenant's or session's chain")
            elif record.hash != hash_of(record):
                self.add("altered", seq, "its contents do not have its hash")
            elif record.arguments_redacted is None and record.arguments_sha256 is not None:
                if erasing:
                    continue
                self.add("altered", seq, "its arguments are gone and nothing in the chain erased them")
            elif record.arguments_sha256 != _arguments_digest(record):
                self.add("altered", seq, "its arguments are not the ones that were recorded")
            else:
                continue
            self.bad.add(seq)

    def gaps(self) -> None:
        # What cannot be read is not missing. A head may claim any count, so nothing here counts up to it.
        known = sorted(self.by_seq.keys() | self.bad)
        expected = 1
        for seq in known:
            if seq > self.head_count:
                break
            if seq > expected:
                self.add("missing", expected, "taken out", seq - 1)
            expected = seq + 1
        if expected <= self.head_count:
            self.add("truncated", expected, f"the head counts {self.head_count} records", self.head_count)
        for seq in known:
            if seq > self.head_count:
                self.add("extra", seq, f"the head counts only {self.head_count} records")

    def links(self) -> None:
        for seq, record in self.by_seq.items():
            if seq in self.bad:
                continue
            if seq == 1:
                if record.previous_hash != self.start:
                    self.add("altered", seq, "does not start this session's chain")
                continue
            before = self.by_seq.get(seq - 1)
            if before is not None and seq - 1 not in self.bad and record.previous_hash != before.hash:
                self.add("altered", seq - 1, f"record {seq} was chained to another one: this or that one was replaced")

    def head(self) -> None:
        if self.head_count == 0:
            if self.head_hash != self.start:
                self.add("head", None, "counts no records, but has a hash")
            return
        last = self.by_seq.get(self.head_count)
        if last is not None and self.head_count not in self.bad and last.hash != self.head_hash:
            self.add(
                "head",
                self.head_count,
                "the last record is not the one that the head names: rewritten, or the head was",
            )


def _as_stored(record: AuditRecord, raw: Mapping[str, Any]) -> bool:
    """Whether a stored mapping is what this record is stored as: a value of another type can read as the same record,
    but nobody of ours wrote it."""
    if isinstance(raw.get("at"), datetime):
        return True  # A mapping of Python's own values, that comes from no table.
    try:
        written = canonical_json(plain_json({name: value for name, value in raw.items() if value is not None}))
        return written == canonical_json(as_stored(record))
    except (ValueError, TypeError):
        return False


def _arguments_digest(record: AuditRecord) -> str | None:
    if record.arguments_redacted is None:
        return None
    return _sha256({"arguments": record.arguments_redacted, "salt": record.arguments_salt or ""})


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
