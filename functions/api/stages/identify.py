"""The first stage: who is asking, from the word of the server in front, never from the body.

=========  ===========================================================================================================
``jwt``    the claims of a JWT that was checked there; their names are settings
``iam``    a signed request of a trusted backend, which names tenant, user and role in headers; who else signs may be
           known to AWS, but not to us
``local``  headers, and somebody where they are missing: only for a kit on one's own machine
=========  ===========================================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from functions.api.http import Request
from turnkeeper.core.errors import Forbidden, SessionNotFound, Unauthenticated
from turnkeeper.core.inputs import invalid
from turnkeeper.core.policy import Policy
from turnkeeper.core.reading import Reading
from turnkeeper.core.reserved_tenants import is_reserved
from turnkeeper.core.tracing import Origin, origin_of
from turnkeeper.runtime.intake import Identity
from turnkeeper.settings import Settings

#: What a header may name. Two headers of one name arrive joined by a comma, which is no part of a name.
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
#: What a claim may be: issuers put more into a subject, such as ``auth0|123``.
_CLAIM = re.compile(r"[!-~]{1,128}")
_ROLE_LENGTH = 64

_ASSUMED_ROLE = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/[^/]+")
_ROLE = re.compile(r"arn:(?P<partition>[\w-]+):iam::(?P<account>\d{12}):role/(?:[^/]+/)*(?P<role>[^/]+)")


def identify(request: Request, settings: Settings, policy: Policy) -> Identity:
    """The caller of a request. A role that is not said is the policy's default; of several that a token says, it is the
    one that the policy describes.

    Raises:
        Unauthenticated: nobody vouches for it, or tenant or user are not said.
        Forbidden: signed by somebody who is not trusted to name tenants and users.
        InvalidRequest: a header that names nobody.
    """
    match settings.identity:
        case "jwt":
            who = _from_claims(request.claims, settings, policy)
        case "iam":
            _check_principal(request.principal, settings)
            who = _from_headers(request.headers, policy.default_role)
        case "local":
            local = {"x-tenant-id": "local", "x-user-id": "dev"}
            who = _from_headers({**local, **request.headers}, "admin")
    if len(who.role) > _ROLE_LENGTH:
        raise Unauthenticated(f"The role is longer than {_ROLE_LENGTH} characters.")
    return replace(who, origin=_origin(request))


def identify_reader(request: Request, reading: Reading) -> Identity:
    """The holder of a stream token, who is whoever asked for it, but for this session only.

    Raises:
        SessionNotFound: the request is about another session.
    """
    if request.parameters.get("session_id") != reading.session_id:
        raise SessionNotFound("There is no such session.")
    return Identity(reading.tenant_id, reading.user_id, reading.role, _origin(request))


def _origin(request: Request) -> Origin:
    return origin_of(request.headers.get("traceparent"), request.request_id)


def _from_claims(claims: Mapping[str, Any], settings: Settings, policy: Policy) -> Identity:
    tenant = _claim(claims, settings.jwt_tenant_claim)
    if is_reserved(tenant):
        raise Unauthenticated("The token names a tenant that is nobody's.")
    user = _claim(claims, settings.jwt_user_claim)
    named = settings.jwt_role_claim
    return Identity(tenant, user, _role(claims, named, policy) if named in claims else policy.default_role)


def _claim(claims: Mapping[str, Any], name: str) -> str:
    """A claim that says one thing. A list is refused also where it has one entry: as text it cannot be told from a name
    in brackets, and then two callers could be one. A number is as good as its digits, which is what API Gateway makes
    of it."""
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if _listed(value) is not None or not isinstance(value, str) or not _CLAIM.fullmatch(value):
        raise Unauthenticated(f"The token says no {name} that can be used.")
    return value


def _role(claims: Mapping[str, Any], name: str, policy: Policy) -> str:
    """The role that a claim says, alone or in a list, as groups come. Of several it is the one that policy.toml
    describes, if that is one: which of two would count is not ours to guess."""
    listed = _listed(claims[name])
    if listed is None:
        return _claim(claims, name)
    roles = list(dict.fromkeys(listed))
    if len(roles) > 1:
        roles = [role for role in roles if role in policy.roles]
    if len(roles) != 1 or not _CLAIM.fullmatch(roles[0]):
        which = "more than one" if len(roles) > 1 else "none"
        raise Unauthenticated(
            f"Of the roles that the token lists in {name}, {which} can be used: exactly one has to be."
        )
    return roles[0]


def _listed(value: object) -> list[str] | None:
    """The entries of a claim that is a list, as such where we have read the token ourselves. API Gateway's authorizer
    hands it on as text, ``[admin user]``."""
    if isinstance(value, list):
        return [entry if isinstance(entry, str) else "" for entry in value]
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        return value[1:-1].split()
    return None


def _check_principal(arn: str | None, settings: Settings) -> None:
    if not arn:
        raise Unauthenticated("The request is not signed.")
    if not any(_is(arn, trusted) for trusted in settings.trusted_principals):
        raise Forbidden("This principal may not name tenants and users.")


def _is(arn: str, trusted: str) -> bool:
    """Whether the caller is the trusted principal, or a session of the trusted role. A session's name for its role
    leaves out the path, which is no part of what makes a role's name unique."""
    if arn == trusted:
        return True
    session, role = _ASSUMED_ROLE.fullmatch(arn), _ROLE.fullmatch(trusted)
    return session is not None and role is not None and session.groupdict() == role.groupdict()


def _from_headers(headers: Mapping[str, str], default_role: str) -> Identity:
    role = headers.get("x-user-role")
    return Identity(
        tenant_id=_header(headers, "X-Tenant-Id"),
        user_id=_header(headers, "X-User-Id"),
        role=default_role if role is None else _header(headers, "X-User-Role"),
    )


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower())
    if value is None:
        raise Unauthenticated(f"The header {name} is missing.")
    if not _NAME.fullmatch(value):
        raise invalid(f"The header {name} holds no name.", f"header {name}", "letters, digits and ._:@- only")
    return value
