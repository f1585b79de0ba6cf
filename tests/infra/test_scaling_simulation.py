"""The worker's scaling in simulation; and faults that are planted into the templates, each of which has to be found: a
simulation that is content with anything proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fargate_worker.retiring import Retiring
from tests.infra import scaling_checks as checks
from tests.infra.scaling_checks import HOUR, Check, Templates, simulated
from tests.infra.scaling_template import Scaling, depends_on, of_type, planted
from tests.infra.variants import SETTINGS, Synthesize, Variant


@pytest.fixture(scope="session")
def templates(synthesize: Synthesize) -> Templates:
    """Of the one variant that is asked for."""
    settings = SETTINGS["prod-jwt"]
    return Variant("prod-jwt", settings, synthesize(validated=False, **settings)).templates


#: What takes the simulation seconds each: many jobs, or a deployment in the midst of them.
LONG = {
    checks.check_a_deployment_ends_while_the_queue_is_busy,
    checks.check_an_interruption_kills_no_session,
    checks.check_tasks_follow_the_backlog,
    checks.check_a_broken_image_is_seen_and_replaces_nobody,
    checks.check_the_alarm_alone_finds_the_tasks_for_a_backlog,
    checks.check_a_job_right_after_the_rest_is_not_held_up,
}


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, marks=[pytest.mark.long] * (check in LONG), id=name) for name, check in checks.CHECKS.items()],
)
def test_holds(check: Check, templates: Templates) -> None:
    check(templates)


@pytest.mark.long
def test_five_hundred_jobs_spread_over_all_slots(templates: Templates) -> None:
    scaling = Scaling.of(templates)
    with simulated(templates) as simulation:
        sessions = simulation.send(500, "[[sleep 60]][[say done]]")
        slots = scaling.most * scaling.slots
        assert simulation.until(lambda: sum(simulation.running()) == slots) <= 3 * 60
        assert simulation.running() == [scaling.slots] * scaling.most
        # Four rounds of a minute each for 160 at a time, once the tasks run.
        assert simulation.until(simulation.done) <= 6 * 60
        assert simulation.statuses(sessions) == {"idle"}
        assert simulation.until(lambda: not simulation.ecs.tasks) <= 15 * 60
        assert (simulation.killed, simulation.unclean) == ([], [])
        assert not simulation.kit.watched.dead_letters


def test_metrics_of_an_idle_queue_are_late_where_no_sweep_asks_for_it(templates: Templates) -> None:
    """The alarm is the last who wakes. With the sweep it is as quick after a day's rest as after an hour; alone it
    waits 15 minutes for the first datapoint."""
    woken_after: dict[bool, float] = {}
    for sweeps in (True, False):
        with simulated(templates, wake_is_lost=True, sweep_runs=sweeps) as simulation:
            simulation.run(8 * HOUR)
            simulation.sweeps = False
            simulation.send(1)
            woken_after[sweeps] = simulation.first_step()
    assert woken_after[True] <= 6 * 60
    assert 15 * 60 <= woken_after[False] <= 20 * 60


@pytest.mark.long
def test_a_deployment_hangs_where_no_task_retires(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ECS's protection does to a deployment, without `fargate_worker.retiring`."""
    monkeypatch.setattr(Retiring, "look", lambda _: None)
    with pytest.raises(AssertionError):
        checks.check_a_deployment_ends_while_the_queue_is_busy(templates)


# ---- planted faults ----


def only(templates: Templates, kind: str, word: str = "") -> dict[str, Any]:
    (found,) = [one for id, one in of_type(templates["Worker"], kind) if word in id]
    properties: dict[str, Any] = found["Properties"]
    return properties


def policy(templates: Templates, word: str) -> dict[str, Any]:
    found = only(templates, "AWS::ApplicationAutoScaling::ScalingPolicy", word)
    configuration: dict[str, Any] = found["StepScalingPolicyConfiguration"]
    return configuration


def expression_of(templates: Templates, alarm: str, expression: str) -> dict[str, Any]:
    found = only(templates, "AWS::CloudWatch::Alarm", alarm)
    (math,) = [one for one in found["Metrics"] if "Expression" in one]
    math["Expression"] = expression
    return found


def grow_to_an_exact_number(templates: Templates) -> None:
    policy(templates, "Grow")["AdjustmentType"] = "ExactCapacity"


def grow_by_doubling(templates: Templates) -> None:
    """The steps of 0.1.0: 2 tasks for 33 messages, 4 for 112."""
    bounds = [0, 16, 48, 112, 144]
    policy(templates, "Grow")["StepAdjustments"] = [
        {"MetricIntervalLowerBound": low, "ScalingAdjustment": tasks}
        | ({} if high is None else {"MetricIntervalUpperBound": high})
        for low, high, tasks in zip(bounds, [*bounds[1:], None], [1, 2, 4, 8, 10], strict=True)
    ]


def grow_at_the_first_datapoint(templates: Templates) -> None:
    only(templates, "AWS::CloudWatch::Alarm", "MessagesWait")["EvaluationPeriods"] = 1


def grow_on_a_sum_with_a_metric_that_is_not_reported(templates: Templates) -> None:
    alarm = only(templates, "AWS::CloudWatch::Alarm", "MessagesWait")
    rest = only(planted(templates), "AWS::CloudWatch::Alarm", "TasksIdle")["Metrics"]
    for name in ("MetricName", "Namespace", "Period", "Statistic", "Dimensions"):
        del alarm[name]
    alarm["Metrics"] = [one for one in rest if one["Id"] in {"waiting", "in_hand"}]
    alarm["Metrics"].append({"Id": "sum", "Expression": "waiting + in_hand", "ReturnData": True})
    alarm["TreatMissingData"] = "ignore"


def rest_as_long_as_nothing_is_there(templates: Templates) -> None:
    found = expression_of(templates, "TasksIdle", "waiting + FILL(in_hand, 0)")
    found |= {"ComparisonOperator": "LessThanOrEqualToThreshold", "Threshold": 0}
    only(templates, "AWS::CloudWatch::Alarm", "TasksIdle").update(found)
    policy(templates, "Rest").update(
        StepAdjustments=[{"MetricIntervalUpperBound": 0, "ScalingAdjustment": 0}], Cooldown=0
    )


def rest_again_at_once(templates: Templates) -> None:
    policy(templates, "Rest")["Cooldown"] = 0


def rest_on_what_is_not_known(templates: Templates) -> None:
    expression_of(templates, "TasksIdle", "IF(FILL(waiting, 0) + FILL(in_hand, 0) == 0, tasks, 0)")


def rest_without_what_is_in_hand(templates: Templates) -> None:
    expression_of(templates, "TasksIdle", "IF(waiting == 0, tasks, 0)")


def rest_after_a_minute(templates: Templates) -> None:
    only(templates, "AWS::CloudWatch::Alarm", "TasksIdle")["EvaluationPeriods"] = 1


def rest_never(templates: Templates) -> None:
    """In 0.1.0 the sum had no value when nothing was in hand."""
    expression_of(templates, "TasksIdle", "IF(waiting + in_hand == 0, tasks, 0)")


def nobody_knows_the_service(templates: Templates) -> None:
    (container,) = only(templates, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    container["Environment"] = [one for one in container["Environment"] if one["Name"] != "TURNKEEPER_WORKER_SERVICE"]


def the_observer_may_not_wake(templates: Templates) -> None:
    for id, one in of_type(templates["Api"], "AWS::IAM::Policy"):
        if id.startswith("ObserverRole"):
            document = one["Properties"]["PolicyDocument"]
            document["Statement"] = [each for each in document["Statement"] if each.get("Sid") != "WakeWorker"]


def no_base(templates: Templates) -> None:
    for one in only(templates, "AWS::ECS::Service")["CapacityProviderStrategy"]:
        one.pop("Base", None)


def a_short_stop(templates: Templates) -> None:
    only(templates, "AWS::ECS::TaskDefinition")["ContainerDefinitions"][0]["StopTimeout"] = 30


def a_desired_count(templates: Templates) -> None:
    only(templates, "AWS::ECS::Service")["DesiredCount"] = 0


def an_image_that_nobody_proves(templates: Templates) -> None:
    ((_, service),) = of_type(templates["Worker"], "AWS::ECS::Service")
    service["DependsOn"] = [id for id in depends_on(service) if "Awake" not in id]


FAULTS: list[tuple[Callable[[Templates], None], Check]] = [
    (grow_to_an_exact_number, checks.check_growing_never_lowers),
    (grow_by_doubling, checks.check_the_alarm_alone_finds_the_tasks_for_a_backlog),
    (grow_at_the_first_datapoint, checks.check_tasks_follow_the_backlog),
    (grow_on_a_sum_with_a_metric_that_is_not_reported, checks.check_the_alarm_wakes_where_nobody_did),
    (rest_as_long_as_nothing_is_there, checks.check_a_task_woken_after_a_long_rest_stays),
    (rest_again_at_once, checks.check_a_job_right_after_the_rest_is_not_held_up),
    (rest_on_what_is_not_known, checks.check_nothing_is_ended_on_missing_data),
    (rest_without_what_is_in_hand, checks.check_it_does_not_rest_while_a_session_runs),
    (rest_after_a_minute, checks.check_it_rests_after_ten_empty_minutes),
    (rest_never, checks.check_it_rests_after_ten_empty_minutes),
    (nobody_knows_the_service, checks.check_the_sender_wakes_within_a_minute),
    (the_observer_may_not_wake, checks.check_the_observer_wakes_where_the_front_door_could_not),
    (no_base, checks.check_the_first_task_needs_no_spot),
    (a_short_stop, checks.check_an_interruption_kills_no_session),
    (a_desired_count, checks.check_a_deployment_leaves_the_number_of_tasks),
    (an_image_that_nobody_proves, checks.check_a_deployment_at_rest_begins_a_task),
]


@pytest.mark.long
@pytest.mark.parametrize(("plant", "check"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_a_planted_fault_is_found(plant: Callable[[Templates], None], check: Check, templates: Templates) -> None:
    broken = planted(templates)
    plant(broken)
    with pytest.raises(AssertionError):
        check(broken)
