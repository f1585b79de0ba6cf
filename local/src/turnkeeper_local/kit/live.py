"""Making code and settings live in the functions of a kit that is up, without deploying its stacks.

A caller of a function is given a version, by an alias. So what runs ends with the code that it began with, and what
begins next gets the new one (docs/decisions/0093).
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper_local.kit.environments import builder_environment
from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.http import wait_until
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.settings import KitSettings

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef as Function
    from mypy_boto3_lambda.type_defs import FunctionConfigurationTypeDef

_OURS = "functions."
"""How handlers of the kit begin; a stack may hold functions of the CDK's own, too."""
_UPDATE_SECONDS = 20


def build_code(settings: KitSettings) -> bytes:
    """The code of functions as a deploy would carry it, zipped."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    tree = str(settings.source_root or "")
    done = subprocess.run(
        [sys.executable, "-m", "turnkeeper_infra.bundle", "code", version, settings.agents, tree],
        check=False,
        capture_output=True,
        text=True,
        cwd=settings.project,
        env=builder_environment(settings.project),
    )
    if done.returncode:
        raise KitError(f"the code cannot be bundled:\n{done.stderr.strip()}")
    return Path(done.stdout.strip()).read_bytes()


def make_live(ministack: Ministack, turn_function: str, code: bytes | None = None) -> None:
    """Give the kit's functions this code, where they have another; and let aliases lead to a version with the code and
    the settings that their function has.

    CloudFormation publishes a version when the template of a function changes. A parameter's value is not in the
    template, and code that was given to the function directly is not either.
    """
    client: LambdaClient = ministack.client("lambda")
    stack = turn_function.split(":")[6].split("-", maxsplit=1)[0]
    functions = [
        function
        for page in client.get_paginator("list_functions").paginate()
        for function in page["Functions"]
        if function["FunctionName"].startswith(f"{stack}-") and function.get("Handler", "").startswith(_OURS)
    ]
    wanted = base64.b64encode(hashlib.sha256(code).digest()).decode() if code is not None else None

    def renew(function: FunctionConfigurationTypeDef) -> None:
        name = function["FunctionName"]
        if code is not None and function["CodeSha256"] != wanted:
            client.update_function_code(FunctionName=name, ZipFile=code)
        _lead_aliases(client, name)

    # Each waits for idle processes of its function to end.
    with ThreadPoolExecutor(max_workers=max(1, len(functions))) as pool:
        list(pool.map(renew, functions))


def _lead_aliases(client: LambdaClient, name: str) -> None:
    aliases = client.list_aliases(FunctionName=name)["Aliases"]
    if not aliases:
        return
    latest = _settled(client, name)
    for alias in aliases:
        led_to = client.get_function_configuration(FunctionName=name, Qualifier=alias["FunctionVersion"])
        if _what_runs(led_to) != _what_runs(latest):
            published = client.publish_version(FunctionName=name)
            client.update_alias(FunctionName=name, Name=alias["Name"], FunctionVersion=published["Version"])


def _settled(client: LambdaClient, name: str) -> Function:
    """The function, once its last change is done: before, Lambda publishes nothing."""
    if not wait_until(
        lambda: client.get_function_configuration(FunctionName=name).get("LastUpdateStatus") != "InProgress",
        within_seconds=_UPDATE_SECONDS,
    ):
        raise KitError(f"the function {name} was not updated within {_UPDATE_SECONDS} s")
    return client.get_function_configuration(FunctionName=name)


def _what_runs(function: Function) -> tuple[object, ...]:
    return (function["CodeSha256"], function.get("Environment", {}).get("Variables"), function.get("Timeout"))
