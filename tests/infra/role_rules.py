"""What each role may do, and what its code can come to do: `action@resource`, from the templates and from the code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from tests.infra.reading import Deployment, Resource, as_list
from tests.support.reach import CallGraph
from turnkeeper_infra import names

#: Each role whose process is ours, with what the process runs.
ENTRIES: Final[Mapping[str, str]] = {
    "FrontDoorRole": names.API_HANDLER,
    "StreamRole": "functions.api.serve.main",  # by way of names.STREAM_PROGRAM
    "TurnRole": names.TURN_HANDLER,
    "ObserverRole": names.OBSERVE_HANDLER,
    "ScorerRole": names.SCORE_HANDLER,
    "SweepRole": names.SWEEP_HANDLER,
    "TraceRole": names.TRACE_HANDLER,
    "DeliverRole": names.DELIVER_HANDLER,
    "TaskRole": "fargate_worker.process.work",
}

#: Those that run tools, which a team's file may give more to.
RUNNERS: Final = ("TurnRole", "TaskRole")

#: One that is there only where a stage asks for streams.
OF_STREAMS: Final = "StreamRole"
#: One that is there only where a stage asks for traces.
OF_TRACES: Final = "TraceRole"
#: Those that a stage's file names receivers for.
TOLD_BY_FILE: Final = (OF_TRACES, "DeliverRole")
#: What stands behind the queue of traces, which is there only then.
FOR_TRACES: Final = "@TracesQueue"

#: What calls AWS, with what it has to be allowed. A call that is not listed fails the test that reads this.
CALLS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(actions.split())
    for name, actions in {
        "turnkeeper.adapters.dynamodb.DynamoTable.get": "dynamodb:GetItem@Table",
        "turnkeeper.adapters.dynamodb.DynamoTable.batch_get": "dynamodb:BatchGetItem@Table",
        "turnkeeper.adapters.dynamodb.DynamoTable.query": "dynamodb:Query@Table",
        "turnkeeper.adapters.dynamodb.DynamoTable.update": "dynamodb:UpdateItem@Table",
        "turnkeeper.adapters.s3.S3Blobs.put": "s3:PutObject@Claims",
        # Without the bucket's list S3 calls a missing object a forbidden one.
        "turnkeeper.adapters.s3.S3Blobs.get": "s3:GetObject@Claims s3:ListBucket@Claims",
        "turnkeeper.adapters.s3.S3Blobs.delete_prefix": "s3:ListBucket@Claims s3:DeleteObject@Claims",
        "turnkeeper.adapters.sqs.SqsQueue.send": "sqs:SendMessage@Queue",
        "turnkeeper.adapters.sqs.SqsQueue.receive": "sqs:ReceiveMessage@Queue",
        "turnkeeper.adapters.sqs.SqsQueue.extend": "sqs:ChangeMessageVisibility@Queue",
        "turnkeeper.adapters.sqs.SqsQueue.delete": "sqs:DeleteMessage@Queue",
        "turnkeeper.adapters.sqs.SqsQueue.reject": "sqs:SendMessage@DeadLetters",
        "turnkeeper.adapters.sqs.SqsQueue.backlog": "sqs:GetQueueAttributes@Queue",
        "turnkeeper.adapters.trace_queue.SqsTraceQueue.send": "sqs:SendMessage@TracesQueue",
        "turnkeeper.adapters.trace_queue.SqsTraceQueue.put_off": "sqs:ChangeMessageVisibility@TracesQueue",
        "turnkeeper.adapters.words.SqsWords.tell": "sqs:SendMessage@HooksQueue",
        "turnkeeper.adapters.words.EventBridgeBus.put": "events:PutEvents@HooksBus",
        # Only where the stage's file names queues, each by its ARN.
        "turnkeeper.adapters.words.SqsReplies.send": "",
        "turnkeeper.wiring.aws.AwsPlatform.hook_keys": "secretsmanager:GetSecretValue@HookKeys",
        "turnkeeper.adapters.ecs.EcsClient.describe_services": "ecs:DescribeServices@service",
        "turnkeeper.adapters.ecs.EcsClient.update_service": "ecs:UpdateService@service",
        "turnkeeper.adapters.ecs.EcsClient.describe_tasks": "ecs:DescribeTasks@tasks",
        "turnkeeper.adapters.dynamodb_endpoint.region_and_url": "",  # asks a client where it would send to
        "turnkeeper.adapters.ecs.own_task_arn": "",  # asks the task's own metadata, which is no call of AWS
        "turnkeeper.adapters.sns.SnsAlerts.alert": "sns:Publish@Alerts",
        "turnkeeper.adapters.lambda_turns.LambdaTurns.start": "lambda:InvokeFunction@TurnLive",
        "turnkeeper.wiring.aws.AwsPlatform.signing_keys": "secretsmanager:GetSecretValue@SigningKeys",
        # Set by a request to the agent of ECS, which does it in the task's name and asks for both.
        "fargate_worker.protection.TaskProtection._put": "ecs:GetTaskProtection@tasks ecs:UpdateTaskProtection@tasks",
    }.items()
}

#: Operations of a transaction, by what is made to ask for one.
IN_TRANSACTIONS: Final = {
    "turnkeeper.table.Put": "dynamodb:PutItem@Table",
    "turnkeeper.table.Update": "dynamodb:UpdateItem@Table",
    "turnkeeper.table.Check": "dynamodb:ConditionCheckItem@Table",
}

#: Which way the model is called is a setting.
MODEL_CALLS: Final = {
    "anthropic": ("turnkeeper.adapters.secrets.SecretsManagerKey._read", "secretsmanager:GetSecretValue@ModelKey"),
    "bedrock": (
        "turnkeeper.adapters.anthropic_model.AnthropicModel.call",
        "bedrock:InvokeModelWithResponseStream@models",
    ),
}

#: What Lambda itself does in a function's name.
_BY_LAMBDA: Final = {
    "ObserverRole": {
        *(f"dynamodb:{action}@Table" for action in ("DescribeStream", "GetRecords", "GetShardIterator")),
        *("dynamodb:ListStreams@*", "sqs:SendMessage@ObserverFailures"),
    },
    "ScorerRole": {
        *(f"dynamodb:{action}@Table" for action in ("DescribeStream", "GetRecords", "GetShardIterator")),
        *("dynamodb:ListStreams@*", "sqs:SendMessage@ScorerFailures"),
    },
    "DeliverRole": {f"sqs:{action}@HooksQueue" for action in ("DeleteMessage", "GetQueueAttributes", "ReceiveMessage")},
    OF_TRACES: {f"sqs:{action}@TracesQueue" for action in ("DeleteMessage", "GetQueueAttributes", "ReceiveMessage")},
}

#: Named by the code of a role, and never called: what stands behind it is not asked for. Each has its reason.
NEVER_CALLED: Final[Mapping[str, frozenset[str]]] = {
    # It drives turns whose cancel is written down, and those only end (`core.decide`, `runtime.cancelling.Nobody`).
    role: frozenset({"turnkeeper.runtime.turn.Turn._call_model", "turnkeeper.runtime.turn.Turn._run_tools"})
    for role in ("FrontDoorRole", OF_STREAMS)
}

#: Told by the code's types, and never so. Each has its reason; one that is not needed any more fails.
NEVER: Final[Mapping[tuple[str, str], str]] = {
    ("SweepRole", "s3:PutObject@Claims"): "what a sweep writes says how a session stands, and fits into its item",
    ("TaskRole", "lambda:InvokeFunction@TurnLive"): "the worker is told of no function: it asks on the queue",
}


def needed(graph: CallGraph, role: str, provider: str) -> set[str]:
    """All that the code of a role can come to ask AWS for, by the types."""
    reached = graph.reached_from(ENTRIES[role], NEVER_CALLED.get(role, frozenset()))
    found = set().union(*(CALLS[name] for name in reached & CALLS.keys()))
    if "turnkeeper.adapters.dynamodb.DynamoTable.write" in reached:
        made = set().union(*(graph.definitions[name].made for name in reached & graph.definitions.keys()))
        found |= {action for kind, action in IN_TRANSACTIONS.items() if kind in made}
    for name in reached & graph.methods:
        found |= {f"dynamodb:Query@Table/{index}" for index in graph.definitions[name].texts & names.INDEXES.keys()}
    function, action = MODEL_CALLS[provider]
    found |= {action} if function in reached else set()
    return found | _BY_LAMBDA.get(role, set())


def allowed(deployment: Deployment, given: Collection[str] = ()) -> dict[str, set[str]]:
    """What the policies of each role of `ENTRIES` allow, but for what every function does for its log and network, and
    for what a stage's file names for runners' tools, a receiver of traces and replies: the resources `given`."""
    found: dict[str, set[str]] = {role: set() for role in ENTRIES}
    for policy in deployment.all("AWS::IAM::Policy"):
        for reference in policy.properties["Roles"]:
            holder = deployment.follow(policy.stack, reference)
            role = _plain(holder.id) if holder is not None else ""
            if role in found:
                for statement in policy.properties["PolicyDocument"]["Statement"]:
                    found[role] |= set(
                        _allows(deployment, policy, statement, given if role in (*RUNNERS, *TOLD_BY_FILE) else ())
                    )
    return found


def unlisted_calls(graph: CallGraph) -> set[str]:
    """Functions of ours that name a method of a client of AWS, can be come to, and are not in `CALLS`."""
    reached = set().union(*(graph.reached_from(entry) for entry in ENTRIES.values()))
    return {
        name
        for name in reached & graph.definitions.keys()
        if name not in CALLS and any(map(_CLIENT_METHOD.fullmatch, graph.definitions[name].names))
    }


_CLIENT_METHOD = re.compile(r"mypy_boto3_\w+\.(client|paginator|waiter)\.\w+\.\w+|urllib\.request\.urlopen")
#: For its log, for its place in a network, and for keys: these come with the function, not with its code.
_ROUTINE = re.compile(r"(logs:(CreateLogStream|PutLogEvents)|ec2:\w*(NetworkInterface|PrivateIp|Subnet)\w*|kms:.*)@.*")


def _allows(
    deployment: Deployment, policy: Resource, statement: Mapping[str, Any], given: Collection[str]
) -> Iterator[str]:
    resources = [one for one in as_list(statement["Resource"]) if not (isinstance(one, str) and one in given)]
    for action in as_list(statement["Action"]):
        for resource in resources:
            one = f"{action}@{_label(deployment.text(policy.stack, resource))}"
            if not _ROUTINE.fullmatch(one):
                yield one


def _label(resource: str) -> str:
    """A resource as people call it: the table, the queue, an index of the table."""
    if found := re.match(r"\$\{\w+/(\w+?)[0-9A-F]{8}(?:\.\w+)?\}(?:/index/(\w+))?", resource):
        return f"{found[1]}/{found[2]}" if found[2] else found[1]
    # A restored table that the stage's file names, its indexes and its stream.
    if found := re.match(r"arn:[\w-]+:dynamodb:[^:]*:[^:]*:table/[^/]+(?:/index/(\w+)|/stream/.*)?$", resource):
        return f"Table/{found[1]}" if found[1] else "Table"
    for label, mark in {
        "ModelKey": ":secret:",
        "models": ":bedrock:",
        "tasks": ":task/",
        "service": ":service/",
    }.items():
        if mark in resource:
            return label
    return resource


def _plain(id: str) -> str:
    return re.sub(r"[0-9A-F]{8}$", "", id)
