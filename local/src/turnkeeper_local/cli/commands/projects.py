"""A repository of agents: made, locked, deployed, and brought to another version of the kit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.options import Json
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from turnkeeper_project import Project
    from turnkeeper_project.upgrading import Upgrade

app = typer.Typer()

_PANEL = "A repository"
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

StageOption = Annotated[str, typer.Option("--stage", metavar="S", help="A file of stages/, without its ending.")]
Cdk = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CDK OPTIONS]...", help="Handed on to the CDK, such as -c key=value.", show_default=False),
]


@app.command(rich_help_panel=_PANEL)
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new folder.", show_default=False)],
    agent: Annotated[str, typer.Option("--agent", metavar="AGENT", help="Name of its first agent.")] = "assistant",
    json: Json = False,
) -> None:
    """Make a repository: an agent with a tool, evals and a test, policy, stages, lock, CDK app, workflow."""
    with Output(json) as out, _told():
        from pathlib import Path

        from turnkeeper_project import kit_version
        from turnkeeper_project.template import write_project

        project = write_project(Path(name), agent, progress=lambda step: out.note(f"{step} ..."))
        document = {"project": str(project.root), "agent": agent, "version": kit_version()}

        def show(console: Console) -> None:
            console.print(f"{project.root} is ready; README.md says how to go on:", markup=False)
            for line in (f"cd {name}", "turnkeeper up", f"turnkeeper chat {agent}"):
                console.print(f"    {line}", markup=False)

        out.answer(document, show)


@app.command(rich_help_panel=_PANEL)
def lock(
    packages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PACKAGE]...", help="With --upgrade: only these.", show_default=False),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take newer versions, of everything or of PACKAGE.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 where the lock is stale.")] = False,
    install: Annotated[
        bool | None,
        typer.Option("--install/--no-install", help="Install it into this environment.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Lock what the agents import over what the kit runs with, and install it here. What is locked stays."""
    with Output(json) as out, _told():
        import sys
        from pathlib import Path

        from turnkeeper_local.cli.stacks import further_agents
        from turnkeeper_project.locking import install_lock, lock_problems, write_lock

        if packages and not upgrade:
            raise UsageError("packages are named with --upgrade", code="usage")
        project = _project()
        more = further_agents(project)
        changes: list[str] = []
        layer = None
        if check:
            if problems := lock_problems(project, more):
                raise CliError("\n".join(problems), code="stale_lock", problems=problems)
        else:
            locked = write_lock(
                project, more, upgrade=packages or (), upgrade_all=upgrade and not packages,
                progress=lambda step: out.note(f"{step} ..."),
            )  # fmt: skip
            changes, layer = locked.changes, locked.layer
        installed = not check if install is None else install
        if installed:
            install_lock(project, Path(sys.executable))
        document = {
            "lock": str(project.lock),
            "changes": changes,
            "layer_bytes": layer.total_bytes if layer else None,
            "installed": installed,
        }

        def show(console: Console) -> None:
            for line in changes or ["the lock holds" if check else "nothing changed"]:
                console.print(line, markup=False)
            if layer:
                console.print(f"layer: {layer.total_bytes / 1e6:.1f} MB unzipped", markup=False)

        out.answer(document, show)


@app.command(rich_help_panel=_PANEL)
def image(json: Json = False) -> None:
    """Lay out what the worker's image is built from, and print the folder."""
    with Output(json) as out, _told():
        import subprocess
        import sys

        from turnkeeper_local.cli.stacks import further_agents
        from turnkeeper_local.kit.environments import builder_environment
        from turnkeeper_project.locking import lock_problems

        project = _project()
        more = further_agents(project)
        if problems := lock_problems(project, more):
            raise CliError("\n".join(problems), code="stale_lock", problems=problems)
        folders = ":".join(map(str, more))
        command = [sys.executable, "-m", "turnkeeper_infra.bundle", "image", *filter(None, [folders])]
        environment = builder_environment(project.root)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=project.root)
        if done.returncode:
            raise CliError(f"the image's folder cannot be laid out:\n{done.stderr.strip()}", code="no_image")
        folder = done.stdout.strip()
        out.answer({"context": folder}, lambda console: console.print(folder, markup=False, soft_wrap=True))


@app.command(rich_help_panel=_PANEL)
def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Only say what would change.")] = False, json: Json = False
) -> None:
    """Bring this repository to the version of the kit that is installed: pin, lock, cdk.json, workflow."""
    with Output(json) as out, _told():
        import dataclasses

        from turnkeeper_local.cli.stacks import further_agents
        from turnkeeper_project.upgrading import upgrade_project, what_changes

        project = _project()
        more = further_agents(project)
        if check:
            found = what_changes(project, more)
        else:
            found = upgrade_project(project, more, progress=lambda step: out.note(f"{step} ..."))
        out.answer(dataclasses.asdict(found) | {"done": not check}, lambda console: _show(console, found, check))


@app.command(rich_help_panel=_PANEL, context_settings=_PASSED_ON)
def synth(options: Cdk = None, stage: StageOption = "dev", json: Json = False) -> None:
    """Synthesize all stacks of a stage, checked by cdk-nag; needs no account."""
    _cdk("synth", stage, options, ["--quiet", "--context", "nag=true"], json)


@app.command(rich_help_panel=_PANEL, context_settings=_PASSED_ON)
def diff(options: Cdk = None, stage: StageOption = "prod", json: Json = False) -> None:
    """What a deploy of a stage would change in the account of the AWS credentials."""
    _cdk("diff", stage, options, ["--method", "template"], json)


@app.command(rich_help_panel=_PANEL, context_settings=_PASSED_ON)
def deploy(options: Cdk = None, stage: StageOption = "prod", json: Json = False) -> None:
    """Deploy the stacks of a stage (all, or those named first) into the account of the AWS credentials."""
    import os

    words = ["--outputs-file", "cdk.out/outputs.json"]
    if not options or options[0].startswith("-"):
        words.insert(0, "--all")
    # Without a terminal nobody can be asked; what a deploy widens is then approved where its diff is read.
    if os.environ.get("CI"):
        words += ["--require-approval", "never"]
    _cdk("deploy", stage, options, words, json)


def _show(console: Console, found: Upgrade, check: bool) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False)

    say(f"turnkeeper {found.old} -> {found.new}" if found.old != found.new else f"turnkeeper {found.new}")
    if found.changelog:
        say(f"\n{found.changelog}\n")
    for note in found.notes:
        say(f"note: {note}")
    for kind, names in (("stages", "stages/*.toml"), ("policy", "policy.toml")):
        for change, keys in found.settings.get(kind, {}).items():
            if keys:
                say(f"{change} in {names}: {', '.join(keys)}")
    for line in found.packages:
        say(f"requirements.lock: {line}")
    for name in found.written:
        say(f"{'would write' if check else 'wrote'} {name}")
    for name in found.beside:
        say(f"{name} was changed here: {'would write' if check else 'wrote'} {name}.new, to compare and take over")
    if not (found.written or found.beside):
        say("nothing to do")


def _cdk(command: str, stage: str, options: list[str] | None, words: list[str], json: bool) -> None:
    with Output(json) as out, _told():
        from turnkeeper_local.cli.stacks import call_cdk

        project = _project()
        called = call_cdk(project, command, stage, options or [], words=words, to_stderr=json)
        if called.exit_code:
            raise CliError(
                f"`cdk {command}` ended with {called.exit_code}", code="cdk_failed", exit_code=called.exit_code
            )
        document: dict[str, Any] = {"command": called.command, "stage": stage, "exit_code": 0}
        out.answer(document, lambda _: None)


def _project() -> Project:
    from turnkeeper_project import find_project

    return find_project()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with a repository, as errors of a command."""
    from turnkeeper_project import NoProject
    from turnkeeper_project.locking import LockError
    from turnkeeper_project.requirements import RequirementError
    from turnkeeper_project.target import NoUv
    from turnkeeper_project.template import TemplateError
    from turnkeeper_project.upgrading import UpgradeError

    try:
        yield
    except (NoProject, TemplateError) as error:
        raise UsageError(str(error), code="no_project" if isinstance(error, NoProject) else "cannot_init") from error
    except (LockError, RequirementError) as error:
        raise CliError(str(error), code="lock_failed") from error
    except (NoUv, UpgradeError) as error:
        raise CliError(str(error), code="upgrade_failed" if isinstance(error, UpgradeError) else "no_uv") from error
