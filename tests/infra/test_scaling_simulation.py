"""How the worker wakes, scales, is deployed and rests, in simulation.

Each check is a scenario on the synthesized templates. Below them, the faults that each check is there for are planted
into the templates, and have to be found: a simulation that is content with anything proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from fargate_worker.retiring import Retiring
from infra.scaling import REST_MINUTES
from tests.infra.scaling_simulation import Conditions, Simulation
from tests.infra.scaling_template import Scaling, Template, depends_on, of_type, planted
from tests.infra.variants import Variants

Templates = Mapping[str, Template]
Check = Callable[[Templates], None]

SEEDS = range(3)
LONG = "[[sleep 400]][[say done]]"
HOUR = 3600.0


def steps(count: int, seconds: int) -> str:
    """So many calls of a tool, with so long a model call before each."""
    return "".join(f'[[sleep {seconds}]][[tool add {{"a":{n},"b":1}}]]' for n in range(count)) + "[[say done]]"


STEPS = steps(6, 20)


@pytest.fixture(scope="session")
def templates(variants: Variants) -> Templates:
    return variants["prod-jwt"].templates


@contextmanager
def simulated(templates: Templates, seed: int = 0, **conditions: Any) -> Iterator[Simulation]:
    simulation = Simulation(templates, Conditions(seed=seed, **conditions))
    try:
        simulation.run(200 + 7 * seed)
        yield simulation
    finally:
        simulation.close()


def wishes(simulation: Simulation) -> list[int]:
    """What the desired count was set to, one after the other."""
    return [desired for _, desired, _ in simulation.ecs.changes]


# ---- waking ----


def check_the_sender_wakes_within_a_minute(templates: Templates) -> None:
    for seed in SEEDS:
        with simulated(templates, seed) as simulation:
            simulation.send(1)
            assert simulation.first_step() <= 60
            assert wishes(simulation) == [1]


def check_the_sweep_wakes_where_the_sender_could_not(templates: Templates) -> None:
    """Within a minute of the sweep's, and the time that a task takes: 90 s where that is 30."""
    for seed in SEEDS:
        with simulated(templates, seed, wake_is_lost=True, starting_seconds=(28.0, 28.0)) as simulation:
            simulation.send(1)
            assert simulation.first_step() <= 90


def check_the_alarm_wakes_where_nobody_did(templates: Templates) -> None:
    for seed in SEEDS:
        with simulated(templates, seed, wake_is_lost=True, sweep_runs=False) as simulation:
            simulation.send(1)
            assert simulation.first_step() <= 6 * 60


def check_a_task_woken_after_a_long_rest_stays(templates: Templates) -> None:
    with simulated(templates) as simulation:
        for pause in (600, HOUR, 7 * HOUR):
            simulation.run(pause)
            simulation.send(1)
            assert simulation.first_step() <= 60
            simulation.until(lambda: simulation.ecs.desired == 0)


def check_a_job_right_after_the_rest_is_not_held_up(templates: Templates) -> None:
    """While the alarm that ended the tasks still goes on."""
    for seed in SEEDS:
        for pause in range(0, 200, 40):
            with simulated(templates, seed) as simulation:
                simulation.send(1)
                simulation.until(lambda simulation=simulation: simulation.ecs.desired == 0 and simulation.done())
                simulation.run(pause)
                simulation.send(1, LONG)
                assert simulation.first_step() <= 60
                assert simulation.until(simulation.done) < 500


# ---- growing ----


def check_tasks_follow_the_backlog(templates: Templates) -> None:
    """As many as it takes, and not one more: what is starting is not started a second time."""
    scaling = Scaling.of(templates)
    for seed, jobs in enumerate((1, 16, 17, 33, 48, 49, 112)):
        with simulated(templates, seed) as simulation:
            simulation.send(jobs, LONG)
            simulation.run(6 * 60)
            assert wishes(simulation) == sorted(set(wishes(simulation)))
            assert simulation.ecs.desired == math.ceil(jobs / scaling.slots), jobs


def check_the_alarm_alone_finds_the_tasks_for_a_backlog(templates: Templates) -> None:
    scaling = Scaling.of(templates)
    for jobs in (33, 48, 112):
        with simulated(templates, jobs, wake_is_lost=True, sweep_runs=False) as simulation:
            simulation.send(jobs, LONG)
            simulation.run(9 * 60)
            assert simulation.ecs.desired == math.ceil(jobs / scaling.slots), jobs


def check_growing_never_lowers(templates: Templates) -> None:
    """Every slot is taken, and a few more wait: the alarm goes on, and the tasks stay as many."""
    scaling = Scaling.of(templates)
    with simulated(templates) as simulation:
        simulation.send(scaling.most * scaling.slots + 5, LONG)
        simulation.run(6 * 60)
        assert len(simulation.ecs.running()) == simulation.ecs.desired == scaling.most
        assert sum(simulation.running()) == scaling.most * scaling.slots
        assert wishes(simulation) == sorted(wishes(simulation))


# ---- resting ----


def check_it_rests_after_ten_empty_minutes(templates: Templates) -> None:
    for seed in SEEDS:
        with simulated(templates, seed) as simulation:
            simulation.send(20)
            simulation.until(simulation.done)
            took = simulation.until(lambda simulation=simulation: simulation.ecs.desired == 0)
            assert REST_MINUTES * 60 - 60 <= took <= REST_MINUTES * 60 + 4 * 60
            simulation.run(60)
            assert not simulation.ecs.tasks


def check_it_does_not_rest_while_a_session_runs(templates: Templates) -> None:
    with simulated(templates) as simulation:
        (session,) = simulation.send(1, steps(5, 400), "helper")
        simulation.until(simulation.done)
        assert wishes(simulation) == [1]
        assert simulation.statuses([session]) == {"idle"}


def check_nothing_is_ended_on_missing_data(templates: Templates) -> None:
    with simulated(templates) as simulation:
        simulation.is_reported = False
        simulation.send(1, LONG * 3)
        simulation.run(HOUR)
        assert wishes(simulation) == [1]


# ---- Spot ----


def check_the_first_task_needs_no_spot(templates: Templates) -> None:
    with simulated(templates, has_spot=False) as simulation:
        simulation.send(1)
        assert simulation.first_step() <= 60


def check_an_interruption_kills_no_session(templates: Templates) -> None:
    for seed in SEEDS:
        with simulated(templates, seed) as simulation:
            sessions = simulation.send(33, steps(4, 70), "helper")
            simulation.until(lambda simulation=simulation: len(simulation.ecs.running()) == 3)
            simulation.run(30)
            assert simulation.interrupt_spot() is not None
            assert simulation.until(simulation.done) < HOUR
            assert (simulation.killed, simulation.unclean) == ([], [])
            assert simulation.statuses(sessions) == {"idle"}


# ---- deployments ----


def check_a_deployment_ends_while_the_queue_is_busy(templates: Templates) -> None:
    for seed in (0, 1):
        with simulated(templates, seed) as simulation:
            _deploy_while_busy(simulation)


def _deploy_while_busy(simulation: Simulation) -> None:
    sessions = simulation.keep_sending(15 * 60, 20, STEPS, "helper")
    simulation.run(5 * 60)
    before = simulation.ecs.desired
    simulation.ecs.deploy(simulation.now)
    assert simulation.until(lambda: not simulation.ecs.is_deploying, HOUR) <= 6 * 60
    assert simulation.ecs.desired >= before
    assert simulation.until(lambda: simulation.done() and len(sessions) == 90) < HOUR
    assert (simulation.killed, simulation.unclean) == ([], [])
    assert simulation.statuses(sessions) == {"idle"}


def check_a_broken_image_is_seen_and_replaces_nobody(templates: Templates) -> None:
    with simulated(templates) as simulation:
        sessions = simulation.keep_sending(15 * 60, 20, STEPS, "helper")
        simulation.run(5 * 60)
        simulation.ecs.broken = "ecs-svc/2"
        simulation.ecs.deploy(simulation.now)
        simulation.run(6 * 60)
        assert simulation.ecs.is_deploying
        assert sum(simulation.running()) > 0, "the tasks of before go on working"
        assert simulation.until(lambda: simulation.done() and len(sessions) == 90) < HOUR
        assert simulation.statuses(sessions) == {"idle"}


def check_a_deployment_at_rest_begins_a_task(templates: Templates) -> None:
    """So the circuit breaker has something to see; and it rests again afterwards."""
    with simulated(templates) as simulation:
        simulation.ecs.deploy(simulation.now)
        assert simulation.until(simulation.ecs.running, 120) <= 60
        assert simulation.until(lambda: not simulation.ecs.tasks) <= 20 * 60


def check_a_deployment_leaves_the_number_of_tasks(templates: Templates) -> None:
    with simulated(templates) as simulation:
        simulation.send(40, LONG)
        simulation.run(120)
        simulation.ecs.deploy(simulation.now)
        assert simulation.ecs.desired == 3


CHECKS = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_holds(check: Check, templates: Templates) -> None:
    check(templates)


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


def test_a_deployment_hangs_where_no_task_retires(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ECS's protection does to a deployment, without `fargate_worker.retiring`."""
    monkeypatch.setattr(Retiring, "look", lambda _: None)
    with pytest.raises(AssertionError):
        check_a_deployment_ends_while_the_queue_is_busy(templates)


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
    (grow_to_an_exact_number, check_growing_never_lowers),
    (grow_by_doubling, check_the_alarm_alone_finds_the_tasks_for_a_backlog),
    (grow_at_the_first_datapoint, check_tasks_follow_the_backlog),
    (grow_on_a_sum_with_a_metric_that_is_not_reported, check_the_alarm_wakes_where_nobody_did),
    (rest_as_long_as_nothing_is_there, check_a_task_woken_after_a_long_rest_stays),
    (rest_again_at_once, check_a_job_right_after_the_rest_is_not_held_up),
    (rest_on_what_is_not_known, check_nothing_is_ended_on_missing_data),
    (rest_without_what_is_in_hand, check_it_does_not_rest_while_a_session_runs),
    (rest_after_a_minute, check_it_rests_after_ten_empty_minutes),
    (rest_never, check_it_rests_after_ten_empty_minutes),
    (nobody_knows_the_service, check_the_sender_wakes_within_a_minute),
    (no_base, check_the_first_task_needs_no_spot),
    (a_short_stop, check_an_interruption_kills_no_session),
    (a_desired_count, check_a_deployment_leaves_the_number_of_tasks),
    (an_image_that_nobody_proves, check_a_deployment_at_rest_begins_a_task),
]


@pytest.mark.parametrize(("plant", "check"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_a_planted_fault_is_found(plant: Callable[[Templates], None], check: Check, templates: Templates) -> None:
    broken = planted(templates)
    plant(broken)
    with pytest.raises(AssertionError):
        check(broken)
