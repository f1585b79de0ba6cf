"""What a manifest of ``deploy/`` says of a process: its command, its environment, how it is stopped. Compose,
Kubernetes and systemd say it each in their own way; here it is one form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.repository import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Stated:
    """One process, as stated."""

    name: str
    command: list[str]
    environment: dict[str, str]
    #: Files that hold secrets, by their places.
    secrets: list[str]
    #: Between the signal and the kill, without what comes before the signal.
    grace_seconds: float
    stop_signal: str = "SIGTERM"
    #: Variables and files of variables that are stated elsewhere.
    elsewhere: list[str] = field(default_factory=list)


def compose() -> dict[str, Any]:
    """The document, with what is left to the caller's environment at its defaults."""
    text = (DEPLOY / "compose.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    return found


def of_compose(names: list[str]) -> dict[str, Stated]:
    document = compose()
    return {name: _of_service(name, document["services"][name]) for name in names}


def _of_service(name: str, service: Mapping[str, Any]) -> Stated:
    assert service["entrypoint"] == [], "the image's own would come before the command"
    return Stated(
        name=name,
        command=service["command"],
        environment={key: value for key, value in service["environment"].items() if value},
        secrets=[f"/run/secrets/{secret}" for secret in service.get("secrets", [])],
        grace_seconds=seconds(service.get("stop_grace_period", "10s")),
        stop_signal=service["stop_signal"],
        elsewhere=[file["path"] for file in service.get("env_file", [])],
    )


def kubernetes(folder: str = "base") -> Iterator[dict[str, Any]]:
    """The objects of a folder's kustomization."""
    root = DEPLOY / "kubernetes" / folder
    for file in yaml.safe_load((root / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((root / file).read_text())


def of_kubernetes() -> dict[str, Stated]:
    objects = list(kubernetes())
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    pods = {
        one["metadata"]["name"].removeprefix("turnkeeper-"): one["spec"]["template"]["spec"]
        for one in objects
        if one["kind"] in {"Deployment", "Job"}
    }
    return {name: _of_pod(name, pod, maps) for name, pod in pods.items()}


def _of_pod(name: str, pod: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]]) -> Stated:
    [container] = pod["containers"]
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        environment |= maps[source["configMapRef"]["name"]]
    environment |= {one["name"]: one["value"] for one in container.get("env", [])}
    held = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    assert before[0] == "sleep"
    return Stated(
        name=name,
        command=container["command"],
        environment=environment,
        secrets=[mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in held],
        grace_seconds=pod.get("terminationGracePeriodSeconds", 30) - float(before[1]),
    )


def units() -> list[Path]:
    return sorted((DEPLOY / "systemd").glob("*.service"))


def of_systemd() -> dict[str, Stated]:
    return {path.stem.removeprefix("turnkeeper-"): _of_unit(path) for path in units()}


def unit_settings(path: Path) -> dict[str, list[str]]:
    """Each setting of a unit with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def _of_unit(path: Path) -> Stated:
    told = unit_settings(path)
    pairs = [pair for line in told["Environment"] for pair in shlex.split(line)]
    # %d: the folder of credentials.
    environment = {
        name: value.replace("%d", "/credentials") for name, _, value in (pair.partition("=") for pair in pairs)
    }
    return Stated(
        name=path.stem,
        command=shlex.split(told["ExecStart"][0]),
        environment=environment,
        secrets=[f"/credentials/{one.partition(':')[0]}" for one in told["LoadCredential"]],
        grace_seconds=seconds(told["TimeoutStopSec"][0]),
        stop_signal=told["KillSignal"][0],
        elsewhere=told.get("EnvironmentFile", []),
    )


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm]?)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * _SECONDS[unit]
