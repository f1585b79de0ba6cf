"""Tenants that are nobody's customers. Their names hold a ``!``, which no name from outside may."""

from __future__ import annotations

#: What is done to all of a deployment is audited on this tenant's chain.
DEPLOYMENT = "!deployment"
_EVALS = "!evals"


def is_reserved(tenant_id: str) -> bool:
    """Whether no caller may be of a tenant of this name."""
    return "!" in tenant_id


def companion_of(tenant_id: str) -> str:
    """The tenant that pays for what is tried out on a tenant's sessions, and that holds those trials: never the tenant
    itself, and never one that another tenant's trials are in."""
    return f"{tenant_id}{_EVALS}"


def is_companion(tenant_id: str) -> bool:
    return tenant_id.endswith(_EVALS)
