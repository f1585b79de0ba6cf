"""How the worker has to wake, grow, rest and be deployed: scenarios on the synthesized templates, in simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.infra.scaling_simulation import Conditions, Simulation
from tests.infra.scaling_template import Scaling, Template

Templates = Mapping[str, Template]
Check = Callable[[Templates], None]

SEEDS = range(3)
LONG = "[[sleep 400]][[say done]]"
HOUR = 3600.0


def steps(count: int, seconds: int) -> str:
    """So many calls of a tool, with so long a model call before each."""
    return "".join(f'[[sleep {seconds}]][[tool add {{"a":{n},"b":1}}]]' for n in range(count)) + "[[say done]]"


STEPS = steps(6, 20)


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


def check_the_observer_wakes_where_the_front_door_could_not(templates: Templates) -> None:
    """Whatever Fargate takes for a task."""
    for seed in range(12):
        with simulated(templates, seed, wake_is_lost=True) as simulation:
            simulation.ask()
            assert simulation.first_step() <= 90
            assert wishes(simulation) == [1]


def check_sessions_of_hours_ago_wake_nobody(templates: Templates) -> None:
    """A stream that was behind, and is read now."""
    with simulated(templates) as simulation:
        simulation.ask()
        simulation.until(simulation.done)
        simulation.until(lambda: simulation.ecs.desired == 0 and not simulation.ecs.tasks)
        before = wishes(simulation)
        simulation.see_again()
        simulation.run(60)
        assert wishes(simulation) == before


def check_the_sweep_wakes_where_the_sender_could_not(templates: Templates) -> None:
    """A job that somebody put on the queue. Within a minute of the sweep's, and the time that a task takes: 90 s where
    that is 30."""
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
    from turnkeeper_infra.scaling import REST_MINUTES  # jsii starts with this import

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


CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")
}
