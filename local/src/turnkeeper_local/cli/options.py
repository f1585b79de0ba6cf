"""Options and arguments that many commands take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from turnkeeper_local.cli.called import not_empty, remember

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ResetSettings = Annotated[
    bool,
    typer.Option("--reset-settings", help="Forget the settings of the last `up`: defaults, and the environment's."),
]
Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        envvar="TURNKEEPER_STACK",
        help="A deployed kit, by its stacks' prefix.",
        callback=remember("stack"),
    ),
]
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="T", help="Tenant; `local` on the local kit.", callback=remember("tenant")),
]
User = Annotated[
    str | None, typer.Option("--user", metavar="U", help="User; `dev` on the local kit.", callback=remember("user"))
]
Role = Annotated[
    str | None, typer.Option("--role", metavar="R", help="Role; `admin` on the local kit.", callback=remember("role"))
]
Session = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Go on with this session.", callback=not_empty)
]
Wait = Annotated[float, typer.Option("--wait", metavar="S", min=0, help="Wait this many seconds for the turn to rest.")]

#: As the API has them (`Placement` and `Status` of the package), which takes long to import.
Placement = Literal["auto", "interactive", "background"]
Status = Literal["idle", "running", "queued", "completed", "stopped", "failed", "cancelled", "erased"]

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="A session's id: ses_...", show_default=False)]
AgentName = Annotated[str, typer.Argument(metavar="AGENT", help="Name of an agent.", show_default=False)]
TenantId = Annotated[str, typer.Argument(metavar="TENANT", show_default=False, callback=not_empty)]
