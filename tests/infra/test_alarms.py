"""What is watched exists, what rings is heard: on the templates, and on templates with a fault planted in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.infra import runbook
from tests.infra.alarm_rules import (
    ALARM,
    COMPOSITE,
    RULES,
    alarms_on_the_age_of_jobs,
    alarms_that_cloudwatch_refuses,
    alarms_that_reach_nobody,
    alarms_without_a_section,
    boards_that_cloudwatch_cuts,
    dead_letters_without_an_alarm,
    metrics_of_another_service,
    metrics_that_do_not_exist,
    metrics_that_nobody_watches,
    plain,
    rings,
    wakers_whose_failures_are_not_counted,
    watched,
)
from tests.infra.reading import Deployment
from tests.infra.variants import Variants

Rule = Callable[[Deployment], list[str]]
Plant = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_deployment_keeps_the_rule(rule: Rule, variants: Variants) -> None:
    for name, variant in variants.items():
        assert rule(Deployment(variant.templates)) == [], name


def test_there_is_something_to_watch(variants: Variants) -> None:
    deployment = Deployment(variants["prod-iam"].templates)
    namespaces = {one.namespace for one in watched(deployment)}
    assert namespaces >= {"AWS/Lambda", "AWS/SQS", "AWS/DynamoDB", "AWS/ApiGateway", "Turnkeeper/Turnkeeper"}
    assert len(list(deployment.all(ALARM))) > 15


def test_every_section_of_the_runbook_is_of_an_alarm(variants: Variants) -> None:
    """Of some variant: what one leaves out may have alarms of its own."""
    every = {plain(one.id) for variant in variants.values() for one in rings(Deployment(variant.templates))}
    for name, text in runbook.sections().items():
        assert runbook.rows(text).keys() <= every, name
        assert runbook.rows(text), name


def resources(templates: dict[str, Any], stack: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in templates[stack]["Resources"].values() if one["Type"] == kind]


def alarm(templates: dict[str, Any], id: str) -> dict[str, Any]:
    (found,) = [
        one for name, one in templates["Observe"]["Resources"].items() if one["Type"] == ALARM and name.startswith(id)
    ]
    properties: dict[str, Any] = found["Properties"]
    return properties


def throttled_without_its_operation(templates: dict[str, Any]) -> None:
    alarm(templates, "TableReadsThrottled")["MetricName"] = "ThrottledRequests"


def a_misspelled_metric(templates: dict[str, Any]) -> None:
    alarm(templates, "ApiErrors")["MetricName"] = "5XXError"  # a REST API calls it that


def an_unknown_namespace(templates: dict[str, Any]) -> None:
    alarm(templates, "TurnErrors")["Namespace"] = "AWS/Lamda"


def a_graph_of_what_is_not_emitted(templates: dict[str, Any]) -> None:
    on_the_board(templates, """MetricName=\\"repairs\\\"""", """MetricName=\\"mends\\\"""")


def a_metric_that_is_not_drawn(templates: dict[str, Any]) -> None:
    """Only its label is left."""
    on_the_board(templates, """MetricName=\\"repairs\\\"""", """MetricName=\\"flags\\\"""")


def a_graph_without_a_dimension(templates: dict[str, Any]) -> None:
    on_the_board(templates, ",service}", "}")


def an_alarm_on_a_question_after_what_is_not_emitted(templates: dict[str, Any]) -> None:
    query = alarm(templates, "ProviderErrors")["Metrics"][0]
    query["Expression"] = query["Expression"].replace("provider_errors", "provider_failures")


def an_alarm_that_searches(templates: dict[str, Any]) -> None:
    metric = alarm(templates, "QueueWaitLong")["Metrics"][0]
    search = """MAX(SEARCH('{"Turnkeeper/Turnkeeper",agent,service} MetricName="queue_wait"', 'Maximum', 300))"""
    metric["Expression"] = search


def an_alarm_that_asks_and_computes(templates: dict[str, Any]) -> None:
    alarm(templates, "TripsMany")["Metrics"].append({"Id": "more", "Expression": "expr_1*2", "ReturnData": False})


def a_graph_of_a_search_without_end(templates: dict[str, Any]) -> None:
    on_the_board(templates, ",SUM,DESC,20)", ",SUM,DESC)")


def a_graph_with_more_lines_than_are_drawn(templates: dict[str, Any]) -> None:
    on_the_board(templates, ",SUM,DESC,20)", ",SUM,DESC,501)")


def on_the_board(templates: dict[str, Any], old: str, new: str) -> None:
    (dashboard,) = resources(templates, "Observe", "AWS::CloudWatch::Dashboard")
    parts = dashboard["Properties"]["DashboardBody"]["Fn::Join"][1]
    assert any(old in part for part in parts if isinstance(part, str))
    parts[:] = [part.replace(old, new) if isinstance(part, str) else part for part in parts]


def an_alarm_that_does_not_say_where_to_read(templates: dict[str, Any]) -> None:
    alarm(templates, "OutcomesUnknown")["AlarmDescription"] = "Something is unknown"


def an_alarm_that_names_a_section_that_is_not_there(templates: dict[str, Any]) -> None:
    properties = alarm(templates, "OutcomesUnknown")
    properties["AlarmDescription"] = properties["AlarmDescription"].replace("#tools", "#gadgets")


def an_alarm_that_names_the_section_of_others(templates: dict[str, Any]) -> None:
    properties = alarm(templates, "OutcomesUnknown")
    properties["AlarmDescription"] = properties["AlarmDescription"].replace("#tools", "#money")


def a_composite_alarm_that_reaches_nobody(templates: dict[str, Any]) -> None:
    (one,) = resources(templates, "Observe", COMPOSITE)
    del one["Properties"]["AlarmActions"]


def an_alarm_on_what_another_service_emits(templates: dict[str, Any]) -> None:
    (service,) = alarm(templates, "TurnsSetAside")["Dimensions"]
    service["Value"] = "observe"


def an_alarm_on_the_age_of_messages(templates: dict[str, Any]) -> None:
    alarm(templates, "JobsWaiting")["MetricName"] = "ApproximateAgeOfOldestMessage"


def no_statement_for_cloudwatch(templates: dict[str, Any]) -> None:
    (policy,) = resources(templates, "State", "AWS::SNS::TopicPolicy")
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    statements[:] = [one for one in statements if one["Effect"] == "Deny"]
    assert statements


def a_graph_of_another_deployment(templates: dict[str, Any]) -> None:
    on_the_board(templates, "Turnkeeper/", "Turnkeeper/Dev")


def a_count_under_another_name(templates: dict[str, Any]) -> None:
    alarm(templates, "WakesFailed")["MetricName"] = "wake_failures"


def a_log_in_which_nobody_counts(templates: dict[str, Any]) -> None:
    """Of the worker: the log of a function is counted under the same name."""
    resources(templates, "Worker", "AWS::Logs::MetricFilter")[0]["Properties"]["FilterPattern"] = "wake_failed"


def any_account_may_ring(templates: dict[str, Any]) -> None:
    (policy,) = resources(templates, "State", "AWS::SNS::TopicPolicy")
    for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
        if statement["Effect"] == "Allow":
            del statement["Condition"]


def an_alarm_without_an_action(templates: dict[str, Any]) -> None:
    del alarm(templates, "JobsSetAside")["AlarmActions"]


def nobody_hears_of_what_the_observer_sets_aside(templates: dict[str, Any]) -> None:
    observe = templates["Observe"]["Resources"]
    (id,) = [name for name in observe if name.startswith("ObserverFailures")]
    del observe[id]


@pytest.mark.parametrize(
    ("plant", "broken"),
    [
        (throttled_without_its_operation, {metrics_that_do_not_exist}),
        (a_misspelled_metric, {metrics_that_do_not_exist}),
        (an_unknown_namespace, {metrics_that_do_not_exist}),
        (
            a_graph_of_what_is_not_emitted,
            {metrics_that_do_not_exist, metrics_that_nobody_watches},
        ),
        (a_metric_that_is_not_drawn, {metrics_that_nobody_watches}),
        (a_graph_without_a_dimension, {metrics_that_do_not_exist}),
        (
            a_graph_of_another_deployment,
            {metrics_that_do_not_exist, metrics_that_nobody_watches},
        ),
        (a_count_under_another_name, {metrics_that_do_not_exist}),
        (a_log_in_which_nobody_counts, {wakers_whose_failures_are_not_counted}),
        (an_alarm_on_a_question_after_what_is_not_emitted, {metrics_that_do_not_exist}),
        (an_alarm_that_searches, {alarms_that_cloudwatch_refuses}),
        (an_alarm_that_asks_and_computes, {alarms_that_cloudwatch_refuses}),
        (a_graph_of_a_search_without_end, {boards_that_cloudwatch_cuts}),
        (a_graph_with_more_lines_than_are_drawn, {boards_that_cloudwatch_cuts}),
        (an_alarm_that_does_not_say_where_to_read, {alarms_without_a_section}),
        (an_alarm_that_names_a_section_that_is_not_there, {alarms_without_a_section}),
        (an_alarm_that_names_the_section_of_others, {alarms_without_a_section}),
        (a_composite_alarm_that_reaches_nobody, {alarms_that_reach_nobody}),
        (an_alarm_on_what_another_service_emits, {metrics_of_another_service}),
        (an_alarm_on_the_age_of_messages, {alarms_on_the_age_of_jobs}),
        (no_statement_for_cloudwatch, {alarms_that_reach_nobody}),
        (any_account_may_ring, {alarms_that_reach_nobody}),
        (an_alarm_without_an_action, {alarms_that_reach_nobody}),
        (
            nobody_hears_of_what_the_observer_sets_aside,
            {dead_letters_without_an_alarm},
        ),
    ],
)
def test_a_planted_fault_is_found(plant: Plant, broken: set[Rule], variants: Variants) -> None:
    """By the rules that it breaks, and by no other."""
    faulty = copy.deepcopy(variants["prod-iam"].templates)
    plant(faulty)
    assert {rule for rule in RULES if rule(Deployment(faulty))} == broken
