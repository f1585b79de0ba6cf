"""The real `cdk deploy` of the state and API stacks, onto the emulator.

Synthesizing takes most of the time and depends on nothing but files and settings, so a cloud assembly is kept under the
hash of those; a deploy of an unchanged tree skips it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_local.kit.environments import builder_environment, ensure_cdk
from turnkeeper_local.kit.errors import KitError, with_log_tail
from turnkeeper_local.kit.home import Home, file_lock
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_local.kit.sources import fingerprint
from turnkeeper_project import Project

STATE_STACK = "TurnkeeperState"
API_STACK = "TurnkeeperApi"
_DEPLOY_SECONDS = 300
#: Some 300 kB each. As many as projects of one machine ask for in turn: what is thrown out takes seconds to make again.
_KEPT_ASSEMBLIES = 40


@dataclass(frozen=True, slots=True)
class Deployed:
    """What the stacks made, by the names of their outputs."""

    table_name: str
    queue_url: str
    dlq_url: str
    model_secret_id: str
    api_id: str
    turn_function: str


def deploy(
    home: Home,
    ministack: Ministack,
    settings: KitSettings,
    *,
    assembly: Path,
    model_url: str,
    tool_secrets: Mapping[str, str],
    tool_settings: Mapping[str, str],
    reply_queues: Mapping[str, str],
) -> Deployed:
    """Deploy both stacks; what differs from kit to kit is a parameter, so that they can share an assembly.

    Args:
        tool_secrets: ARNs, by the names that tools use.
        reply_queues: URLs, by the names that jobs use.
    """
    lease, turn = str(settings.lease_seconds), f"{settings.turn_seconds:g}"
    parameters = [
        f"{STATE_STACK}:LeaseSeconds={lease}",
        f"{API_STACK}:LeaseSeconds={lease}",
        f"{API_STACK}:TurnSeconds={turn}",
        f"{API_STACK}:AutoPlacement={settings.auto_placement}",
        f"{API_STACK}:ModelUrl={model_url}",
        f"{API_STACK}:ToolSecrets={json.dumps(tool_secrets, sort_keys=True)}",
        f"{API_STACK}:ReplyQueues={json.dumps(reply_queues, sort_keys=True)}",
        f"{API_STACK}:OtlpEndpoint={settings.otlp_endpoint}",
        f"{API_STACK}:TraceContents={settings.trace_contents}",
        f"{API_STACK}:ToolSettings={json.dumps(tool_settings, sort_keys=True)}",
    ]
    with tempfile.TemporaryDirectory(dir=home.temporary) as folder:
        outputs = Path(folder) / "outputs.json"
        _cdk(
            home,
            settings.project,
            ["deploy", STATE_STACK, API_STACK, "--app", str(assembly), "--require-approval", "never"],
            [
                *("--method", "direct", "--progress", "events", "--ci", "--outputs-file", str(outputs)),
                *(part for parameter in parameters for part in ("--parameters", parameter)),
            ],
            environment=ministack.environment(),
        )
        made = json.loads(outputs.read_text())
    state, api = made[STATE_STACK], made[API_STACK]
    return Deployed(
        table_name=state["TableName"],
        queue_url=state["QueueUrl"],
        dlq_url=state["DlqUrl"],
        model_secret_id=state["ModelSecretArn"],
        api_id=api["ApiId"],
        turn_function=api["TurnFunction"],
    )


def synthesize(home: Home, settings: KitSettings, dependencies: Path) -> Path:
    """The cloud assembly of this tree, synthesized where it is not kept from before."""
    context = {
        "local": "true",
        "local_dependencies": str(dependencies),
        "source_root": str(settings.source_root or ""),
        "agents": settings.agents,
        "fetch_contents": str(settings.fetch_contents).lower(),
        "log_level": settings.log_level,
    }
    kept = Project(settings.project).cache / "assemblies"
    assembly = kept / fingerprint(settings, {**context, "python": sys.executable})[:16]
    if assembly.exists():
        os.utime(assembly)
        return assembly
    kept.mkdir(parents=True, exist_ok=True)
    with file_lock(kept / ".lock"):
        if not assembly.exists():  # else another `up` made it meanwhile
            _synthesize(home, settings, context, kept, assembly)
    for old in sorted(kept.glob("[!.]*"), key=lambda path: path.stat().st_mtime)[:-_KEPT_ASSEMBLIES]:
        shutil.rmtree(old, ignore_errors=True)
    return assembly


def _synthesize(home: Home, settings: KitSettings, context: Mapping[str, str], kept: Path, assembly: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=kept))
    try:
        options = [part for name, value in context.items() for part in ("-c", f"{name}={value}")]
        # Not cdk.json's own path of the interpreter: the kit may run from another environment.
        app = f"{shlex.quote(sys.executable)} -m turnkeeper_infra.app"
        # What CloudFormation would find is for what goes to an account: `turnkeeper synth` and every deploy look for
        # that. Here it would take three quarters of the time.
        command = ["synth", "--quiet", "--no-validation", "--app", app, "--output", str(draft)]
        _cdk(home, settings.project, command, options, environment={})
        draft.rename(assembly)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _cdk(home: Home, project: Path, command: list[str], options: list[str], *, environment: Mapping[str, str]) -> None:
    cdk = ensure_cdk(Project(project))
    log = home.log("cdk")
    quiet = {"CDK_DISABLE_CLI_TELEMETRY": "true", "CI": "true", "NO_COLOR": "1", "NODE_NO_WARNINGS": "1"}
    with log.open("ab") as output:
        output.write(f"\n$ cdk {' '.join(command)}\n".encode())
        output.flush()
        try:
            done = subprocess.run(
                ["node", str(cdk), *command, *options],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project,
                env={**builder_environment(project), **quiet, **environment},
                timeout=_DEPLOY_SECONDS,
            )
        except FileNotFoundError:
            raise KitError("Node.js is not installed, or not on the PATH") from None
        except subprocess.TimeoutExpired:
            raise with_log_tail(f"`cdk {command[0]}` took over {_DEPLOY_SECONDS} s", log) from None
    if done.returncode:
        raise with_log_tail(f"`cdk {command[0]}` failed", log)
