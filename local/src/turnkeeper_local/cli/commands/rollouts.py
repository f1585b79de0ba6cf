"""`turnkeeper rollout`: a new version of an agent for some users first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnkeeper_local.cli.options import AgentName, Json, Stack
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operator_of

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(name="rollout", help="A new version of an agent for some users first.", no_args_is_help=True)


@app.command("set")
def set_(
    agent: AgentName,
    share: Annotated[
        float, typer.Option("--share", metavar="PERCENT", min=0, max=100, help="Of users, who stay with what they got.")
    ],
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="By its beginning; else this project's, as it is now.")
    ] = None,
    stable: Annotated[
        str | None, typer.Option("--stable", metavar="V", help="What all others have; else what they have now.")
    ] = None,
    tenants: Annotated[
        str | None, typer.Option("--tenants", metavar="A,B", help="Only users of these tenants are taken.")
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Answer nobody: do this share of turns again, without their effects."),
    ] = False,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Let a version take a share of users; in force within seconds, at the next turn of each session."""
    with Output(json) as out:
        chosen = tuple(part.strip() for part in (tenants or "").split(",") if part.strip())
        if tenants is not None and not chosen:
            # Of nobody's name it would make everybody's.
            raise typer.BadParameter("name at least one tenant, or leave it out for all", param_hint="'--tenants'")
        document = operator_of(stack).set_rollout(
            agent, share_percent=share, candidate=version, stable=stable, tenants=chosen, shadow=shadow
        )
        out.answer(document, lambda console: _tell(console, document))


@app.command()
def show(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="Only this one.")] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Show what is being rolled out, how both versions do, and which versions there are."""
    with Output(json) as out:
        documents = operator_of(stack).rollouts(agent)

        def for_people(console: Console) -> None:
            for document in documents:
                _tell(console, document)

        out.answer({"rollouts": documents}, for_people)


@app.command()
def promote(agent: AgentName, stack: Stack = None, json: Json = False) -> None:
    """The candidate for everybody."""
    with Output(json) as out:
        document = operator_of(stack).end_rollout(agent, promoted=True)
        out.answer(document, lambda console: _tell(console, document))


@app.command()
def abort(
    agent: AgentName,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="For the audit trail.")] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """The stable version for everybody, also while the candidate is what is deployed."""
    with Output(json) as out:
        document = operator_of(stack).end_rollout(agent, promoted=False, reason=reason)
        out.answer(document, lambda console: _tell(console, document))


def _tell(console: Console, document: dict[str, Any]) -> None:
    from rich.text import Text

    agent, rollout = document["agent"], document["rollout"]
    if rollout is None:
        console.print(Text(f"{agent}: what is deployed is in force"))
    else:
        among = f" of the users of {', '.join(rollout['tenants'])}" if rollout["tenants"] else " of users"
        if rollout["shadow"]:
            among = among.replace("users", "turns")
        have, others = ("are done again by", "everybody has") if rollout["shadow"] else ("have", "all others")
        what = {
            "running": f"{rollout['share_percent']:g} %{among} {have} {rollout['candidate'][:12]}, "
            f"{others} {rollout['stable'][:12]}",
            "promoted": f"everybody has {rollout['candidate'][:12]}",
            "aborted": f"everybody has {rollout['stable'][:12]} again",
        }[rollout["state"]]
        reason = f"; {rollout['reason']}" if rollout["reason"] else ""
        ended = f"; ended {rollout['ended_at']}, by {rollout['ended_by']}" if rollout["ended_at"] else ""
        console.print(
            Text(
                f"{agent}: {rollout['state']}: {what} (set {rollout['set_at']}, by {rollout['set_by']}{ended}{reason})"
            )
        )
    for version in document["versions"]:
        did = f"  {version['turns']} turns in a week" if version["turns"] else ""
        marks = " ".join(version["marks"])
        console.print(Text(f"  {version['version'][:12]}  first seen {version['first_seen'][:16]}  {marks}{did}"))
    if document.get("held_back"):
        console.print(Text("  this project's version is held back: it is neither of the two"))
