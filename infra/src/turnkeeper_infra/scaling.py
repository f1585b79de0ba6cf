"""Scaling of the worker's service by CloudWatch: it lowers the number of tasks, and raises it where nobody else did.

Who raises it is the code itself: each sender wakes the first task, and the sweep asks each minute for as many as the
backlog needs (`turnkeeper.runtime.waking`). They see the queue as it is; CloudWatch sees it a minute late, or 15 where
the queue was idle for hours. Why it is divided so: docs/decisions/0084.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

GROW_MINUTES = 3
"""Messages that wait for so long show that nobody raised the number: the sweep does within one minute, and what it
begins runs within another. Sooner, what is starting would be started a second time."""

GROW_COOLDOWN_SECONDS = 180
"""What was added counts as there for so long, until it takes its share of what waits."""

REST_MINUTES = 10
"""Tasks that had nothing to do for so long are ended."""

REST_COOLDOWN_SECONDS = 300
"""The alarm goes on for some minutes after the tasks have ended, by what is known of the minutes before, and would end
one that is woken meanwhile."""

MOST_STEPS = 20
"""A policy takes so many."""

_MINUTE = cdk.Duration.minutes(1)


class WorkerScaling(Construct):
    """Steps from 0 to `most_tasks`. Growing only adds and resting only ends all but the least, so that neither undoes
    what the other, or the code, has asked for."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        service: ecs.FargateService,
        queue: sqs.IQueue,
        most_tasks: int,
        slots: int,
        least_tasks: int = 0,
    ) -> None:
        """`slots` is how many messages a task works on at once; `least_tasks` run at rest."""
        super().__init__(scope, id)
        self._least = least_tasks
        self._target = service.auto_scale_task_count(min_capacity=least_tasks, max_capacity=most_tasks)
        self._waiting = queue.metric_approximate_number_of_messages_visible(period=_MINUTE, statistic="Maximum")
        self._grow(most_tasks, slots)
        self._rest(service, queue)

    def _grow(self, most_tasks: int, slots: int) -> None:
        """For what waits and is in nobody's hand, as many tasks more as hold it. What runs does not count: it has its
        slots, and CloudWatch hears of it only while there is some."""
        policy = autoscaling.StepScalingAction(
            self,
            "Grow",
            scaling_target=self._target,
            adjustment_type=autoscaling.AdjustmentType.CHANGE_IN_CAPACITY,
            cooldown=cdk.Duration.seconds(GROW_COOLDOWN_SECONDS),
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
        )
        # Bounds are relative to the alarm's threshold of one message: up to `slots` messages are the first step.
        steps = _steps(most_tasks)
        for fewer, tasks in zip([0, *steps], steps, strict=False):
            policy.add_adjustment(
                adjustment=tasks,
                lower_bound=fewer * slots,
                upper_bound=None if tasks == most_tasks else tasks * slots,
            )
        self._alarm("MessagesWait", self._waiting, minutes=GROW_MINUTES, policy=policy)

    def _rest(self, service: ecs.FargateService, queue: sqs.IQueue) -> None:
        """Tasks that run while nothing waits and nothing is in hand.

        The value is the number of those tasks. So there is none once they are ended, and the alarm is over soon: while
        it goes on, it ends tasks each minute, also one that was woken since.
        """
        policy = autoscaling.StepScalingAction(
            self,
            "Rest",
            scaling_target=self._target,
            adjustment_type=autoscaling.AdjustmentType.EXACT_CAPACITY,
            cooldown=cdk.Duration.seconds(REST_COOLDOWN_SECONDS),
        )
        policy.add_adjustment(adjustment=self._least, lower_bound=0)
        idle = cloudwatch.MathExpression(
            # Messages in hand are reported only while there are some, so none reported are none. Waiting ones are
            # reported always: where they are not, the expression has no value, and nothing is ended.
            expression="IF(waiting + FILL(in_hand, 0) == 0, tasks, 0)",
            label="Idle tasks",
            period=_MINUTE,
            using_metrics={
                "waiting": self._waiting,
                "in_hand": queue.metric_approximate_number_of_messages_not_visible(period=_MINUTE, statistic="Maximum"),
                # Each running task reports once a minute.
                "tasks": service.metric_cpu_utilization(period=_MINUTE, statistic="SampleCount"),
            },
        )
        self._alarm("TasksIdle", idle, minutes=REST_MINUTES, policy=policy, threshold=self._least + 1)

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        *,
        minutes: int,
        policy: autoscaling.StepScalingAction,
        threshold: int = 1,
    ) -> None:
        cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=minutes,
            # Not knowing is no reason to change anything.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="Scales the worker; not an alert",
        ).add_alarm_action(actions.ApplicationScalingAction(policy))


def _steps(most: int) -> list[int]:
    """Each number of tasks up to `most`, or, where those are more than a policy takes, evenly spaced ones: what lies
    between is rounded up."""
    count = min(most, MOST_STEPS)
    return [-(-most * step // count) for step in range(1, count + 1)]
