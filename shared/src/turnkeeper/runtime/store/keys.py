"""Where things are in the table. The tenant comes first in every key but those of sums over all tenants, which hold
nothing of any of them.

====================================  ==================  ===========================================================
``pk``                                ``sk``              what
====================================  ==================  ===========================================================
``T#tenant#S#session``                ``HEAD``            the session's head
..                                    ``SPEC``            of sessions that name no version: what is frozen into them
..                                    ``PLAN``            the task's plan
..                                    ``ENTRY#seq``       the transcript
..                                    ``RESULT#id``       a tool result put down before its step was written
..                                    ``CALL#number``     the ledger: one reservation and what became of it; of one that
..                                                        brought an entry, the entry's item has that
..                                    ``AUDIT#seq``       the audit chain
..                                    ``ASKED#hash``      a system prompt that was made for it
..                                    ``ASSESSED#turn``   what the evaluators made of a turn; ``#judge``: its judge
..                                    ``TRACED#seq``      the trace of what ended there was sent
..                                    ``COMPANION#id``    a shadow or a judge of one of its turns
..                                    ``DELIVER_TO``      who hears when a turn of it has ended
..                                    ``DELIVERY#seq#..`` word of what ended there, on its way to one of them
..                                    ``ELSEWHERE#...``   what another engine remembers of it, in its own words
..                                    ``STREAM``          who looks on, and how the entry to come stands; for minutes
..                                    ``TASK``            spent and reserved by calls through the gateway
..                                    ``BEGUN``           some of it is written, and it may not be whole yet
``T#tenant#S#token``                  ``TASK``            a token of the gateway, with what it spent and has reserved
..                                    ``CALL#micros``     its ledger, as a session's
``GATEWAY#owner``                     ``BEAT``            a process that has calls of the gateway in flight lives
``WORKERS``                           worker              a worker lives, and has so many slots free
``T#tenant``                          ``TENANT``          plan, overrides, pause
..                                    ``AUDIT#seq``       policy changes and operator actions
..                                    ``VERSION#hash``    what the model is sent around transcripts of the tenant's
..                                    ``RECEIVER#hash``   how an address of a webhook answers, where it does not
``T#tenant#U#user``                   ``DAY#date``        spent and reserved of one user's day
..                                    ``MONTH#month``     and month, or of a month and all of its days
``T#tenant#A#agent``                  ``DAY#date``        and of one agent's day, where that has a cap
``T#tenant#SHARD#number``             ``MONTH#month``     one shard of the tenant's month
``T#tenant#I#user#hash``              ``KEY``             an idempotency key
``SCORES#agent``                      ``HOUR#...``        sums of an hour's scores of one version, over all tenants
..                                    ``FALL#score``      when people were told that a score fell
``ROLLOUT#agent``                     ``CURRENT``         which version has which share of users
..                                    ``VERSION#hash``    a version that was ever deployed, or is to be
====================================  ==================  ===========================================================

Counters of money follow from the rows of :mod:`turnkeeper.core.scopes`: the holder makes the ``pk``, the period the
``sk``.

One query from ``ENTRY#`` on reads what a resume needs; the ledger and the audit chain sort before it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import quote, unquote

from turnkeeper.core.ledger import Counter, Payer
from turnkeeper.core.prompts import kept_as
from turnkeeper.core.scopes import DAYS_IN_MONTHS, SCOPES, SHARDED, Holder, Scope
from turnkeeper.table import Key

RESUME_FROM = "ENTRY#"
#: The sweep reads each of these partitions of the ``due`` index.
DUE_SHARDS = 4


@lru_cache(maxsize=4_096)
def _part(text: str) -> str:
    """Names come from outside: no name may reach into another one's keys. One of dots only would be a step up for
    whoever takes a blob's key for a path."""
    quoted = quote(text, safe="-_.@:+")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def tenant_pk(tenant_id: str) -> str:
    return f"T#{_part(tenant_id)}"


def session_pk(tenant_id: str, session_id: str) -> str:
    return f"{tenant_pk(tenant_id)}#S#{_part(session_id)}"


def session_of_pk(pk: str) -> tuple[str, str] | None:
    """Tenant and session of a session's items; ``None`` for other items."""
    match pk.split("#"):
        case ["T", tenant, "S", session]:
            return unquote(tenant), unquote(session)
    return None


def head_key(tenant_id: str, session_id: str) -> Key:
    return Key(session_pk(tenant_id, session_id), "HEAD")


def version_key(tenant_id: str, version: str) -> Key:
    return Key(tenant_pk(tenant_id), f"VERSION#{version}")


def plan_key(tenant_id: str, session_id: str) -> Key:
    return Key(session_pk(tenant_id, session_id), "PLAN")


def entry_key(tenant_id: str, session_id: str, seq: int) -> Key:
    return Key(session_pk(tenant_id, session_id), entry_sk(seq))


def beginning(tenant_id: str, session_id: str) -> tuple[Key, Key, Key]:
    """All that there is of a session that was just begun: its head, its first entry, and who looks on."""
    return (
        head_key(tenant_id, session_id),
        entry_key(tenant_id, session_id, 1),
        stream_key(tenant_id, session_id),
    )


def entry_sk(seq: int) -> str:
    return f"ENTRY#{seq:09d}"


def prompt_key(tenant_id: str, session_id: str, prompt: str) -> Key:
    """Before what a resume reads: of all that a session was ever sent, it needs one."""
    return Key(session_pk(tenant_id, session_id), f"ASKED#{kept_as(prompt)}")


def elsewhere_key(tenant_id: str, session_id: str, stream: str, number: int) -> Key:
    """Before what a resume reads, as prompts are. ``stream`` is the other engine's name for one of its logs."""
    return Key(session_pk(tenant_id, session_id), f"{elsewhere_prefix(stream)}{number:09d}")


def elsewhere_prefix(stream: str = "") -> str:
    """Of the sort keys of one log, or of all."""
    return f"ELSEWHERE#{_part(stream)}#" if stream else "ELSEWHERE#"


def stream_key(tenant_id: str, session_id: str) -> Key:
    """Behind the entries: a resume reads along whether somebody looks on."""
    return Key(session_pk(tenant_id, session_id), "STREAM")


def result_key(tenant_id: str, session_id: str, tool_use_id: str) -> Key:
    return Key(session_pk(tenant_id, session_id), f"RESULT#{_part(tool_use_id)}")


def call_key(tenant_id: str, session_id: str, call: int) -> Key:
    return Key(session_pk(tenant_id, session_id), call_sk(call))


def call_sk(call: int) -> str:
    return f"CALL#{call:09d}"


def audit_key(tenant_id: str, session_id: str | None, seq: int) -> Key:
    pk = tenant_pk(tenant_id) if session_id is None else session_pk(tenant_id, session_id)
    return Key(pk, f"AUDIT#{seq:09d}")


def assessment_key(tenant_id: str, session_id: str, turn: int) -> Key:
    return Key(session_pk(tenant_id, session_id), f"ASSESSED#{turn:06d}")


def verdict_key(tenant_id: str, session_id: str, turn: int) -> Key:
    return Key(session_pk(tenant_id, session_id), f"ASSESSED#{turn:06d}#judge")


def traced_key(tenant_id: str, session_id: str, last_seq: int) -> Key:
    return Key(session_pk(tenant_id, session_id), f"TRACED#{last_seq:09d}")


def companion_key(tenant_id: str, session_id: str, companion: str) -> Key:
    return Key(session_pk(tenant_id, session_id), f"COMPANION#{_part(companion)}")


def deliver_to_key(tenant_id: str, session_id: str) -> Key:
    """Before what a resume reads, as deliveries are: no runner needs it."""
    return Key(session_pk(tenant_id, session_id), "DELIVER_TO")


def delivery_key(tenant_id: str, session_id: str, seq: int, channel: str) -> Key:
    return Key(session_pk(tenant_id, session_id), f"DELIVERY#{seq:09d}#{channel}")


def receiver_key(tenant_id: str, address: str) -> Key:
    """Named by a hash: an address may hold a secret."""
    return Key(tenant_pk(tenant_id), f"RECEIVER#{hashlib.sha256(address.encode()).hexdigest()[:32]}")


def scores_pk(agent: str) -> str:
    return f"SCORES#{_part(agent)}"


def hour_key(agent: str, hour: str, version: str, shard: int) -> Key:
    """``hour`` as 2026-11-25T22; ``shard`` spreads the writes of a busy agent."""
    return Key(scores_pk(agent), f"HOUR#{hour}#{version}#{shard}")


def fall_key(agent: str, score: str) -> Key:
    return Key(scores_pk(agent), f"FALL#{score}")


def rollout_pk(agent: str) -> str:
    return f"ROLLOUT#{_part(agent)}"


def rollout_key(agent: str) -> Key:
    return Key(rollout_pk(agent), "CURRENT")


def rollout_version_key(agent: str, version: str) -> Key:
    return Key(rollout_pk(agent), f"VERSION#{version}")


def rollout_blob_prefix(agent: str) -> str:
    """Beside those of tenants, none of which is called so."""
    return f"claims/!rollouts/{_part(agent)}/"


def tenant_key(tenant_id: str) -> Key:
    return Key(tenant_pk(tenant_id), "TENANT")


def counter_key(payer: Payer, counter: Counter) -> Key:
    if SCOPES[counter.scope].holder == "task":
        assert payer.purse is not None, "a task is counted in its session's head"
        return purse_key(payer.tenant_id, payer.purse)
    if counter.scope == SHARDED.name:
        return shard_key(payer.tenant_id, counter.period, counter.shard)
    pk = f"{tenant_pk(payer.tenant_id)}{_holder_part(SCOPES[counter.scope].holder, payer)}"
    if (month := counter.month) is not None:
        return Key(pk, _period_sk(DAYS_IN_MONTHS[counter.scope], month))
    return Key(pk, _period_sk(counter.scope, counter.period))


def shard_key(tenant_id: str, period: str, shard: int) -> Key:
    return Key(f"{tenant_pk(tenant_id)}#SHARD#{shard}", _period_sk(SHARDED.name, period))


def _holder_part(holder: Holder, payer: Payer) -> str:
    match holder:
        case "user":
            return f"#U#{_part(payer.user_id)}"
        case "agent":
            assert payer.agent is not None
            return f"#A#{_part(payer.agent)}"
        case "tenant":
            return ""
        case "task":
            raise ValueError("a task is counted in its session's head")


def _period_sk(scope: Scope, period: str) -> str:
    return f"{SCOPES[scope].period}#{period}".upper()


def idempotency_key(tenant_id: str, user_id: str, key: str) -> Key:
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Key(f"{tenant_pk(tenant_id)}#I#{_part(user_id)}#{digest}", "KEY")


def by_user(tenant_id: str, user_id: str) -> str:
    return f"{tenant_pk(tenant_id)}#U#{_part(user_id)}"


def user_of_list(partition: str) -> tuple[str, str]:
    """Tenant and user of a partition of ``by_user``. Raises ValueError for any other."""
    match partition.split("#"):
        case ["T", tenant, "U", user]:
            return unquote(tenant), unquote(user)
    raise ValueError(f"no list of a user's: {partition[:100]}")


def by_tenant(tenant_id: str) -> str:
    """Not the tenant's own ``pk``: that is where heads of 0.1 are, which ``by_status`` does not hold."""
    return f"{tenant_pk(tenant_id)}#S"


def tenant_of_list(partition: str) -> str | None:
    """The tenant whose sessions are in a partition of ``by_tenant``, of this version or of 0.1."""
    match partition.split("#"):
        case ["T", tenant] | ["T", tenant, "S"]:
            return unquote(tenant)
    return None


def by_status(tenant_id: str, status: str) -> str:
    return f"{by_tenant(tenant_id)}#{status}"


def purse_key(tenant_id: str, purse: str) -> Key:
    """A purse is a token, or a session whose calls go through the gateway."""
    return Key(session_pk(tenant_id, purse), "TASK")


#: All tokens of all tenants, in the index of statuses: for operators, who name a token by its id alone.
TOKENS = "TOKENS"


def beat_key(owner: str) -> Key:
    return Key(f"GATEWAY#{_part(owner)}", "BEAT")


#: One item for each worker that lives, or did.
WORKERS = "WORKERS"


def worker_key(worker: str) -> Key:
    return Key(WORKERS, _part(worker))


def by_score(tenant_id: str) -> str:
    """Assessments of the tenant's turns, in the index of statuses: no status is called so."""
    return by_status(tenant_id, "!score")


def by_delivery(tenant_id: str) -> str:
    """Deliveries of the tenant, in the index of statuses: no status is called so."""
    return by_status(tenant_id, "!delivery")


def due_shard(session_id: str) -> str:
    return f"DUE#{hashlib.sha256(session_id.encode()).digest()[0] % DUE_SHARDS}"


def calls_shard(purse: str) -> str:
    """Calls in flight of the gateway, which are no heads."""
    return due_shard(purse).replace("DUE", "CALLS")


def kept_shard(session_id: str) -> str:
    """Apart from what is due: however much has been kept long enough at once, no dead runner waits behind it."""
    return due_shard(session_id).replace("DUE", "KEPT")


def begun_key(tenant_id: str, session_id: str) -> Key:
    return Key(session_pk(tenant_id, session_id), "BEGUN")


def begun_shard(session_id: str) -> str:
    """Sessions without a head yet."""
    return due_shard(session_id).replace("DUE", "BEGUN")


def blob_prefix(tenant_id: str, session_id: str) -> str:
    return f"claims/{_part(tenant_id)}/{_part(session_id)}/"


def version_blob_prefix(tenant_id: str) -> str:
    """Beside those of all sessions, whose names cannot begin like this: nobody's erasure takes it away."""
    return f"claims/{_part(tenant_id)}/!versions/"
