"""What AWS publishes: the metrics of each service that the kit could watch, with every set of dimensions that they come
in. CloudWatch takes an alarm on a metric that does not exist, and it then waits for ever.

Lambda: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
HTTP API: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
ECS: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html
Container Insights: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-enhanced-observability-metrics-ECS.html
EventBridge: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
SNS: https://docs.aws.amazon.com/sns/latest/dg/sns-monitoring-using-cloudwatch.html
"""

from __future__ import annotations

from typing import Final

Dimensions = frozenset[str]


def _sets(*each: str) -> frozenset[Dimensions]:
    return frozenset(frozenset(one.split()) for one in each)


def _rows(dimensions: frozenset[Dimensions], metrics: str) -> dict[str, frozenset[Dimensions]]:
    return dict.fromkeys(metrics.split(), dimensions)


_FUNCTION = _sets("FunctionName", "FunctionName Resource", "FunctionName Resource ExecutedVersion")
_TABLE = _sets("TableName")
_TABLE_OR_INDEX = _sets("TableName", "TableName GlobalSecondaryIndexName")
_OPERATION = _sets("TableName Operation")

AWS_METRICS: Final[dict[str, dict[str, frozenset[Dimensions]]]] = {
    "AWS/Lambda": {
        **_rows(_FUNCTION, "Invocations Errors Throttles Duration ConcurrentExecutions DeadLetterErrors"),
        **_rows(_FUNCTION, "DestinationDeliveryFailures AsyncEventsReceived AsyncEventAge AsyncEventsDropped"),
        **_rows(_sets("FunctionName", "FunctionName Resource"), "IteratorAge"),
    },
    "AWS/SQS": _rows(
        _sets("QueueName"),
        "ApproximateAgeOfOldestMessage ApproximateNumberOfMessagesDelayed ApproximateNumberOfMessagesNotVisible "
        "ApproximateNumberOfMessagesVisible NumberOfEmptyReceives NumberOfMessagesDeleted NumberOfMessagesReceived "
        "NumberOfMessagesSent SentMessageSize",
    ),
    "AWS/ApiGateway": _rows(
        _sets("ApiId", "ApiId Stage", "ApiId Stage Method Resource"),
        "Count 4xx 5xx Latency IntegrationLatency DataProcessed",
    ),
    "AWS/DynamoDB": {
        **_rows(_OPERATION, "ThrottledRequests SystemErrors SuccessfulRequestLatency"),
        **_rows(_TABLE_OR_INDEX, "ReadThrottleEvents WriteThrottleEvents"),
        **_rows(_TABLE_OR_INDEX, "ConsumedReadCapacityUnits ConsumedWriteCapacityUnits"),
        **_rows(_TABLE, "ConditionalCheckFailedRequests TransactionConflict TimeToLiveDeletedItemCount"),
    },
    "AWS/ECS": _rows(_sets("ClusterName", "ClusterName ServiceName"), "CPUUtilization MemoryUtilization"),
    "ECS/ContainerInsights": _rows(
        _sets("ClusterName ServiceName"), "RunningTaskCount PendingTaskCount DesiredTaskCount DeploymentCount"
    ),
    "AWS/Events": _rows(_sets("RuleName"), "Invocations FailedInvocations TriggeredRules"),
    "AWS/SNS": _rows(_sets("TopicName"), "NumberOfMessagesPublished NumberOfNotificationsFailed"),
}
