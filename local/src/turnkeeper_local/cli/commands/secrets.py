"""Secrets of tools on this machine: what agents want, what is given, and giving it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(name="secrets", help="Secrets of tools on this machine, and who wants them.", no_args_is_help=True)


@app.command("set")
def set_secret(
    name: Annotated[str, typer.Argument(help='As tools ask for it: `ctx.secret("NAME")`.')],
    json: Json = False,
) -> None:
    """Give the local kit a secret. It is asked for without an echo, or read from a pipe, and kept in
    secrets.local.toml, which only you can read. The next `up` hands it on."""
    with Output(json) as out:
        import sys

        from turnkeeper.adapters.known_secrets import MIN_SECRET_CHARS
        from turnkeeper_local.kit.errors import KitError
        from turnkeeper_local.kit.values import set_secret as write
        from turnkeeper_project import find_project

        if sys.stdin.isatty():
            value = typer.prompt(f"{name} (not shown)", hide_input=True, err=True)
        else:
            value = sys.stdin.read().removesuffix("\n")
        if len(value.strip()) < MIN_SECRET_CHARS:
            raise KitError(f"a secret has {MIN_SECRET_CHARS} characters or more: a shorter one cannot be redacted")
        file = write(find_project().root, name, value)
        out.answer(
            {"name": name, "file": str(file)}, lambda console: console.print(f"{name} is in {file}", markup=False)
        )


@app.command("list")
def list_secrets(json: Json = False) -> None:
    """Secrets and settings: which agents declare them, and which are given to the local kit. No values."""
    with Output(json) as out:
        from turnkeeper_local.kit.values import LocalValues
        from turnkeeper_project import find_project
        from turnkeeper_project.asking import ask

        root = find_project().root
        given = LocalValues.read(root)
        agents = ask(root).agents
        rows = [
            {
                "kind": kind,
                "name": name,
                "agents": [agent["name"] for agent in agents if name in agent[f"{kind}s"]],
                "given": name in values,
            }
            for kind, values in (("secret", given.secrets), ("setting", given.settings))
            for name in sorted({*values, *(name for agent in agents for name in agent[f"{kind}s"])})
        ]

        def show(console: Console) -> None:
            from rich.table import Table

            table = Table("kind", "name", "agents", "given", box=None)
            for row in rows:
                known = "yes" if row["given"] else "missing"
                table.add_row(str(row["kind"]), str(row["name"]), ", ".join(row["agents"]) or "(none)", known)
            console.print(table if rows else "No agent declares a secret or a setting.")

        out.answer({"values": rows}, show)
