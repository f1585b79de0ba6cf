"""The manifests of ``deploy/`` by themselves: what their schemas say, and what must hold of each process in all of
them. That they start what they say is in ``tests/e2e/test_shapes.py``."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.markers import Marker

from tests.support.manifests import (
    DEPLOY,
    Stated,
    compose,
    kubernetes,
    of_compose,
    of_kubernetes,
    of_systemd,
    unit_settings,
    units,
)
from tests.support.needed import needed
from turnkeeper.settings import PREFIX, Settings
from turnkeeper_project import kit_source
from turnkeeper_project.requirements import Pin, read_lock

COMPONENTS = ("components/keda-postgresql", "components/keda-sqs")
SERVICES = [name for name in compose()["services"] if name != "database"]
#: Variables of a manifest that no process of the kit reads by its settings.
OTHERS = {
    *("PGUSER", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
    "TURNKEEPER_DATABASE_PASSWORD_FILE",
}
ALL: dict[str, Stated] = {
    f"{shape} {name}": stated
    for shape, found in (("compose", of_compose(SERVICES)), ("kubernetes", of_kubernetes()), ("systemd", of_systemd()))
    for name, stated in found.items()
}


PODS = [
    (one["metadata"]["name"], one["spec"]["template"]) for one in kubernetes() if one["kind"] in {"Deployment", "Job"}
]


@pytest.mark.parametrize("stated", ALL.values(), ids=ALL)
def test_a_process_is_told_what_its_settings_know_and_ends_before_it_is_killed(stated: Stated) -> None:
    told = {name: value for name, value in stated.environment.items() if name not in OTHERS}
    assert {name.removeprefix(PREFIX).lower() for name in told} <= set(Settings.model_fields)
    settings = Settings.from_environment(told)
    if stated.command[-1] != "migrate":
        assert settings.stop_seconds < stated.grace_seconds
    assert stated.command[1:3] == ["-m", "server"]


@pytest.mark.parametrize("stated", ALL.values(), ids=ALL)
def test_only_who_calls_the_model_is_given_its_key(stated: Stated) -> None:
    has_key = any("model" in secret for secret in stated.secrets)
    assert has_key == (stated.command[-1] in {"worker", "all"} and "aws.env" not in stated.elsewhere)
    if stated.command[-1] == "front-door":
        assert stated.environment["TURNKEEPER_FRONT_DOOR_TURNS"] == "0"


# ---- Compose ----


def test_the_compose_file_is_one_by_its_schema() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        DEPLOY / "compose.yaml",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_nobody_and_writes_nowhere(name: str) -> None:
    service = compose()["services"][name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_database_is_reached_by_the_kit_only() -> None:
    document = compose()
    assert document["services"]["database"]["networks"] == ["state"]
    assert "ports" not in document["services"]["database"]
    assert document["networks"]["state"] == {"internal": True}
    assert {file for one in document["secrets"].values() for file in one.values()} == {
        f"secrets/{name}" for name in document["secrets"]
    }


# ---- Kubernetes ----


@pytest.mark.parametrize("folder", ["base", *COMPONENTS])
def test_kubernetes_takes_the_objects(folder: str) -> None:
    seen = 0
    for one in kubernetes(folder):
        seen += 1
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, "1.37", strict=True)
    assert seen


@pytest.mark.parametrize(("name", "template"), PODS)
def test_a_pod_is_nobody_writes_nowhere_and_speaks_to_no_cluster(name: str, template: dict[str, Any]) -> None:
    pod = template["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]
    labels = template["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "turnkeeper", "no policy of the network would hold for it"
    if name == "turnkeeper-migrate":
        return
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    [port] = container["ports"]
    environment = of_kubernetes()[name.removeprefix("turnkeeper-")].environment
    stated = environment.get("TURNKEEPER_API_PORT") or environment["TURNKEEPER_HEALTH_PORT"]
    assert int(stated) == port["containerPort"]
    hosts = [environment[name] for name in ("TURNKEEPER_API_HOST", "TURNKEEPER_HEALTH_HOST") if name in environment]
    assert hosts == ["0.0.0.0"], "probes come from outside of the pod"


def test_every_service_of_the_kit_has_a_budget_for_disruptions() -> None:
    objects = list(kubernetes())
    budgets = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for one in objects
        if one["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {"front-door", "worker", "chores"}
    [service] = [one for one in objects if one["kind"] == "Service"]
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "front-door"


def test_the_network_is_closed_but_for_what_is_named() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in kubernetes() if one["kind"] == "NetworkPolicy"}
    closed = policies["turnkeeper-closed"]
    assert (closed["policyTypes"], closed.get("ingress"), closed.get("egress")) == (["Ingress", "Egress"], None, None)
    for policy in policies.values():
        for rule in policy.get("ingress", []) + policy.get("egress", []):
            assert rule["ports"]
            assert rule.get("from") or rule.get("to")
    blocks = [to["ipBlock"] for rule in policies["turnkeeper-outside"]["egress"] for to in rule["to"]]
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"} <= set(
        blocks[0]["except"]
    )
    components = policies["turnkeeper-outside"]["podSelector"]["matchExpressions"][0]["values"]
    assert "migrate" not in components


@pytest.mark.parametrize("folder", COMPONENTS)
def test_the_number_of_workers_follows_the_queue(folder: str) -> None:
    """By what KEDA 2 documents of these triggers; its schema is not at hand."""
    objects = {one["kind"]: one for one in kubernetes(folder)}
    spec = objects["ScaledObject"]["spec"]
    deployments = {one["metadata"]["name"] for one in kubernetes() if one["kind"] == "Deployment"}
    assert spec["scaleTargetRef"]["name"] in deployments
    assert spec.keys() <= {
        *("scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount"),
        *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
    }
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    [trigger] = spec["triggers"]
    assert trigger["authenticationRef"]["name"] == objects["TriggerAuthentication"]["metadata"]["name"]
    metadata = trigger["metadata"]
    assert all(isinstance(value, str) for value in metadata.values())
    needs = {
        "postgresql": {"host", "port", "userName", "dbName", "sslmode", "query", "targetQueryValue"},
        "aws-sqs-queue": {"queueURL", "awsRegion", "queueLength"},
    }[trigger["type"]]
    assert needs <= metadata.keys()
    # A worker's slots are more than the sessions for which there is one.
    slots = int(of_kubernetes()["worker"].environment["TURNKEEPER_WORKER_CONCURRENCY"])
    assert int(metadata.get("targetQueryValue") or metadata["queueLength"]) < slots
    [policy] = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["policies"]
    assert policy["value"] == 1


def test_kustomize_builds_what_the_folders_hold() -> None:
    needed("kubectl", shutil.which("kubectl"))
    overlay = "resources: [{base}]\ncomponents: [{component}]\n"
    for component in COMPONENTS:
        root = DEPLOY / "kubernetes"
        folder = root / f".overlay-{component.rpartition('/')[2]}"
        folder.mkdir(exist_ok=True)
        try:
            (folder / "kustomization.yaml").write_text(overlay.format(base="../base", component=f"../{component}"))
            done = subprocess.run(["kubectl", "kustomize", folder], check=False, capture_output=True, text=True)
        finally:
            shutil.rmtree(folder)
        assert done.returncode == 0, done.stderr
        kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
        assert kinds.count("Deployment") == 3
        assert kinds.count("ScaledObject") == 1


# ---- systemd ----


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    needed("systemd-analyze", shutil.which("systemd-analyze"))
    for path in units():
        # It looks whether the command is there, which it is where the kit is installed.
        text = path.read_text().replace("/opt/turnkeeper/venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text)
    files = [str(tmp_path / path.name) for path in units()]
    done = subprocess.run(["systemd-analyze", "verify", *files], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", units(), ids=lambda path: path.stem)
def test_a_unit_is_nobody_and_writes_into_its_own_folder_only(path: Path) -> None:
    told = unit_settings(path)
    wanted = {
        **dict.fromkeys(("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome"), "yes"),
        **{"ProtectSystem": "strict", "CapabilityBoundingSet": "", "Restart": "always", "UMask": "0077"},
    }
    assert {name: told[name][-1] for name in wanted} == wanted
    assert ("StateDirectory" in told) == (path.stem == "turnkeeper")
    assert "MemoryMax" in told


# ---- Vercel ----


def test_the_function_knows_its_own_limit() -> None:
    stated = json.loads((DEPLOY / "vercel" / "vercel.json").read_text())
    [(entry, limits)] = stated["functions"].items()
    text = (DEPLOY / "vercel" / entry).read_text()
    assert re.search(r"^MAX_SECONDS = (\d+)$", text, re.MULTILINE)[1] == str(limits["maxDuration"])  # type: ignore[index]
    assert {rewrite["destination"] for rewrite in stated["rewrites"]} == {"/" + entry.removesuffix(".py")}
    assert [cron["path"] for cron in stated["crons"]] == ["/chores"]


def test_its_bundle_fits_the_platform() -> None:
    """Code, and what is locked for it, uncompressed: Vercel takes 500 MB of a function in Python. Measured on what is
    installed here, which is the same versions for the same platform where these tests run on x86-64 Linux."""
    sizes = {pin.name: _installed_bytes(pin.name) for pin in read_lock(kit_source().requirements) if _is_meant(pin)}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    kit = kit_source()
    folders = (kit.package, kit.functions, kit.worker, kit.server)
    code = sum(file.stat().st_size for folder in folders for file in folder.rglob("*.py"))
    total = (sum(sizes.values()) + code) / 1e6
    assert len(sizes) > 40
    assert total < 250, (
        f"{total:.0f} MB, above what even functions without Python's exception may have; most: {largest}"
    )


def _is_meant(pin: Pin) -> bool:
    return pin.marker is None or Marker(pin.marker).evaluate()


def _installed_bytes(name: str) -> int:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return 0
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
