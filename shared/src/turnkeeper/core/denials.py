"""Why a call did not reach its tool."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Denial(BaseModel):
    """What is in the way. The roles of others are for callers and the audit trail, not for the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: ``unknown``: the agent has no such tool. ``plan``: the tenant's plan leaves it, or the agent, out. ``role``: the
    #: role lacks scopes. ``not_granted``: the session was made without it, or it was taken away since.
    why: Literal["unknown", "plan", "role", "not_granted"]
    #: ``role``: which ones, of which role, and the roles of policy.toml that have all that the tool needs.
    missing_scopes: tuple[str, ...] = ()
    role: str | None = None
    given_to_roles: tuple[str, ...] = ()


def denial_text(name: str, denial: Denial) -> str:
    """For the model: what is in the way, without what others may do."""
    match denial.why:
        case "unknown":
            return f"There is no tool {name!r} in this session."
        case "plan":
            return f"The tool {name!r} is not granted to this session: its plan leaves it out."
        case "role" if not denial.missing_scopes:
            return f"The tool {name!r} is not granted to this session: its role leaves it out."
        case "role":
            scopes = ", ".join(denial.missing_scopes)
            noun = "scope" if len(denial.missing_scopes) == 1 else "scopes"
            return f"The tool {name!r} is not granted to this session: needs {noun} {scopes}."
        case "not_granted":
            return f"The tool {name!r} is not granted to this session."
