"""What must hold so that a bad version goes back by itself, and a good one loses no call on its way."""

from __future__ import annotations

from tests.infra.reading import Deployment, Resource

CANARY = {"prod": "CodeDeployDefault.LambdaCanary10Percent5Minutes", "dev": "CodeDeployDefault.LambdaAllAtOnce"}


def aliases_that_jump(deployment: Deployment, stage: str) -> list[str]:
    """Aliases that a deployment moves by itself, without CodeDeploy, or at another pace than the stage asks for."""
    problems = []
    for alias in deployment.all("AWS::Lambda::Alias"):
        group = _group(deployment, alias)
        if group is None:
            problems.append(f"{alias} is moved at once")
        elif group.properties.get("DeploymentConfigName") != CANARY[stage]:
            problems.append(f"{alias} is moved by {group.properties.get('DeploymentConfigName')}")
    return problems


def releases_that_do_not_come_back(deployment: Deployment) -> list[str]:
    """Groups that no alarm on the errors of their own alias rolls back."""
    problems = []
    for alias in deployment.all("AWS::Lambda::Alias"):
        if (group := _group(deployment, alias)) is None:
            continue
        rollback = group.properties.get("AutoRollbackConfiguration", {})
        if not (rollback.get("Enabled") and "DEPLOYMENT_STOP_ON_ALARM" in rollback.get("Events", [])):
            problems.append(f"{group} does not roll back")
        configuration = group.properties.get("AlarmConfiguration", {})
        named = [deployment.follow(group.stack, one["Name"]) for one in configuration.get("Alarms", [])]
        if not configuration.get("Enabled") or not any(_on_errors(deployment, alarm, alias) for alarm in named):
            problems.append(f"{group} does not hear of errors of {alias}")
    return problems


def releases_that_do_not_hear_of_answers(deployment: Deployment) -> list[str]:
    """The front door answers with a server error where something fails: of that Lambda counts no failure."""
    problems = []
    for alias in _called(deployment):
        group = _group(deployment, alias)
        alarms = group.properties.get("AlarmConfiguration", {}).get("Alarms", []) if group else []
        named = [deployment.follow(group.stack, one["Name"]) for one in alarms] if group else []
        if not any(alarm is not None and alarm.properties.get("MetricName") == "5xx" for alarm in named):
            problems.append(f"{alias} is moved whatever it answers")
    return problems


def versions_that_go_too_soon(deployment: Deployment) -> list[str]:
    """Published versions that CloudFormation removes in the moment in which the alias has moved on."""
    versions = deployment.all("AWS::Lambda::Version")
    return [str(one) for one in versions if one.template.get("DeletionPolicy") != "Retain"]


def functions_called_past_their_alias(deployment: Deployment) -> list[str]:
    """Routes that lead to the newest code, where there is an alias that is moved with care."""
    return [f"the API calls {target}" for target in _called(deployment) if target.kind != "AWS::Lambda::Alias"]


def _called(deployment: Deployment) -> list[Resource]:
    """What routes lead to."""
    integrations = list(deployment.all("AWS::ApiGatewayV2::Integration"))
    found = [deployment.follow(one.stack, one.properties["IntegrationUri"]) for one in integrations]
    assert found
    assert None not in found
    return [one for one in found if one is not None]


def _group(deployment: Deployment, alias: Resource) -> Resource | None:
    update = alias.template.get("UpdatePolicy", {}).get("CodeDeployLambdaAliasUpdate", {})
    return deployment.follow(alias.stack, update.get("DeploymentGroupName"))


def _on_errors(deployment: Deployment, alarm: Resource | None, alias: Resource) -> bool:
    if alarm is None or alarm.properties.get("MetricName") != "Errors":
        return False
    resource = {one["Name"]: one["Value"] for one in alarm.properties["Dimensions"]}.get("Resource")
    function = deployment.text(alias.stack, alias.properties["FunctionName"])
    return deployment.text(alarm.stack, resource) == f"{function}:{alias.properties['Name']}"
