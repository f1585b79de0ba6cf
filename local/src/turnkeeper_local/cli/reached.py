"""What a command talks with. Made when the command runs, and imported only then: `--help` waits for no AWS client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeeper_local.cli.api import Api
    from turnkeeper_local.cli.operator import Operator
    from turnkeeper_local.cli.place import Place


def api_of(stack: str | None, tenant: str | None, user: str | None, role: str | None) -> Api:
    """The API of a kit, for this caller."""
    from turnkeeper_local.cli.api import connect
    from turnkeeper_local.cli.place import find

    return connect(find(stack), tenant=tenant, user=user, role=role)


def operating(stack: str | None) -> tuple[Place, Operator]:
    """A kit, and its operator."""
    from turnkeeper_local.cli.operator import connect
    from turnkeeper_local.cli.place import find

    place = find(stack)
    return place, connect(place)


def operator_of(stack: str | None) -> Operator:
    """The operator of a kit."""
    return operating(stack)[1]
