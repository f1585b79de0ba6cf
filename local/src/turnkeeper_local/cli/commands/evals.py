"""`turnkeeper eval`: whether agents do what they should, before and after a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from turnkeeper_local.cli.options import Json, SessionId, Stack, Tenant
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from turnkeeper_local.evals.results import Regression, Results

app = typer.Typer(name="eval", help="Whether agents do what they should, offline and in use.", no_args_is_help=True)

STANDARD_OUTPUT = Path("-")


class _JsonAlone(TyperCommand):
    """``--json`` takes a file here; without one it means standard output, as for every other command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in [at for at, word in enumerate(args) if word == "--json"][::-1]:
            if place + 1 == len(args) or args[place + 1].startswith("--"):
                args = [*args[: place + 1], str(STANDARD_OUTPUT), *args[place + 1 :]]
        return super().parse_args(ctx, args)


@app.command(cls=_JsonAlone)
def run(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="Only this agent's cases.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Claude answers, instead of the cases' scripts.")] = False,
    budget: Annotated[
        str, typer.Option("--budget", metavar="USD", help="With --live: no more than this, over all cases.")
    ] = "1.00",
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="TEXT", help="Only cases with this in their name.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only cases with this tag.")] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, max=100, help="Run each N times: what is flaky shows.")
    ] = 1,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="F", help="Write JUnit's XML.")] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="[F]", help="Write the results, to be a baseline later; without F, print them."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write a page for people.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="F", help="Fail where something is worse than there."),
    ] = None,
    at_once: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Cases that run at the same time.")
    ] = None,
) -> None:
    """Run the agents' cases on the real engine, in memory: no kit is needed. Exit code 1 where one fails."""
    with Output(json == STANDARD_OUTPUT) as out:
        from turnkeeper_local.cli.evaluating import judge, play_all, read_baseline

        before = read_baseline(baseline)
        results = play_all(
            out,
            agent,
            filters=filters or [],
            tags=tags or [],
            repeat=repeat,
            at_once=at_once,
            budget=budget if live else None,
        )
        worse = judge(before, results, partial=bool(agent or filters or tags))
        _write(results, worse, junit=junit, json=json, html=html)
        # Against a baseline only what is worse counts: a case that has always failed is known.
        ok = not worse if before is not None else results.ok
        document = {**results.model_dump(mode="json"), "ok": ok, "regressions": [vars(one) for one in worse]}
        out.answer(document, lambda console: _tell(console, results, worse))
        if not ok:
            out.fail()


@app.command()
def capture(
    session: SessionId,
    turn: Annotated[
        int | None, typer.Option("--turn", metavar="N", min=1, help="Up to the end of this turn; else all of it.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What the case is called.")] = None,
    bad: Annotated[bool, typer.Option("--bad", help="It went wrong: expected is that it does not.")] = False,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What a person says of it.")] = None,
    keep_tenant: Annotated[
        bool, typer.Option("--keep-tenant", help="Play it as the session's own tenant, whose prompt may differ.")
    ] = False,
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Make a case of a session: without secrets and personal data, and played once to see that it replays."""
    with Output(json) as out:
        from turnkeeper_local.cli.capturing import capture_session, connect_for_capture

        place = connect_for_capture(stack, tenant)
        told = capture_session(
            place, session, turn=turn, name=name, verdict="bad" if bad else None, note=note, keep_tenant=keep_tenant
        )
        out.answer(told.document(), told.show)
        if not told.replays:
            out.fail()


@app.command()
def review(
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many, at most.")] = 100,
    below: Annotated[
        float | None,
        typer.Option("--below", metavar="SCORE", min=0, max=1, help="Those with a score below this, worst first."),
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
) -> None:
    """Go through sessions one by one, the newest or the worst: say what you think of each, and make cases of some."""
    with Output(False) as out:
        from turnkeeper_local.cli.capturing import connect_for_capture
        from turnkeeper_local.cli.reviewing import review_sessions

        review_sessions(out, connect_for_capture(stack, tenant), count=count, below=below)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="Results of `eval run --json F`, or AGENT@VERSION.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same, to hold against it.")],
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=90, help="Of versions: how far back.")] = 7,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Show two runs, or two versions in use, side by side: scores, cost, steps, latency, trips, with intervals."""
    with Output(json) as out:
        from turnkeeper_local.cli.comparing import compare_both

        compared = compare_both(before, after, stack=stack, days=days)
        out.answer(compared.document(), compared.show)


@app.command()
def schema(json: Json = False) -> None:
    """Print the JSON Schema of files of cases, for editors."""
    with Output(json) as out:
        from turnkeeper_local.evals.cases import schema as schema_of

        out.console.out(schema_of(), end="", highlight=False)


def _write(
    results: Results, worse: list[Regression], *, junit: Path | None, json: Path | None, html: Path | None
) -> None:
    from turnkeeper_local.evals.reports import html as pages
    from turnkeeper_local.evals.reports import junit as xml

    if junit:
        xml.write(results, junit)
    if json and json != STANDARD_OUTPUT:
        results.write(json)
    if html:
        pages.write(results, html, worse=worse)


def _tell(console: Console, results: Results, worse: list[Regression]) -> None:
    from turnkeeper_local.evals.reports.table import show

    show(console, results, worse)
