"""The Lambdas, the HTTP API in front of them, the sweep's schedule and the table's stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.acknowledge import acknowledge
from turnkeeper_infra.alarms import Heard
from turnkeeper_infra.config import Config
from turnkeeper_infra.edge import Edge
from turnkeeper_infra.functions import KitFunction, Packaging, identity_settings, model_settings
from turnkeeper_infra.grants import Grants
from turnkeeper_infra.hooks import Hooks
from turnkeeper_infra.keys import encrypted_queue, key_of
from turnkeeper_infra.logs import log_group
from turnkeeper_infra.network import Network
from turnkeeper_infra.releases import publish
from turnkeeper_infra.runners import equip
from turnkeeper_infra.state import StateStack
from turnkeeper_infra.streaming import StreamDoor
from turnkeeper_infra.traces import Traces

FRONT_DOOR_SECONDS = 29
"""API Gateway gives up at 30 s and answers for us; the front door answers first."""
LOCAL_FRONT_DOOR_SECONDS = 90
"""Nobody gives up locally. It still aims at the other, and is not ended where a busy machine makes it miss that."""

CORS_HEADERS = ("accept", "authorization", "content-type", "idempotency-key", "last-event-id", "prefer")
CORS_EXPOSED = ("preference-applied", "retry-after")
"""What pages of other origins may send and read; the front door as a server says the same."""

_ACCESS_LOG_FIELDS = {
    "request_id": "$context.requestId",
    "at": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "duration_ms": "$context.responseLatency",
    "error": "$context.integrationErrorMessage",
}


class ApiStack(cdk.Stack):
    """Everything that runs without a container."""

    def __init__(self, scope: Construct, id: str, *, config: Config, state: StateStack) -> None:
        super().__init__(scope, id, description="Turnkeeper: front door, turn runner, observer, scorer, sweep")
        self._config = config
        self._state = state
        self._heard = Heard(state.alerts, config.runbook_url)
        self._packaging = Packaging(self, config)
        # Only into a network that is there already: one of the kit's own holds nothing that a tool could want.
        self._network = Network(self, "Network", config=config) if config.vpc_id else None

        self.turn = self._turn_runner()
        live = self._publish_turn(self.turn)
        self.front_door = self._front_door(live)
        self.observer = self._observer()
        self.scorer = self._scorer()
        self.sweep = self._sweep(live)
        self.traces: Traces | None = None
        if config.local or config.traces != "off":
            self.traces = Traces(self, "Traces", config=config, state=state, function=self._function, heard=self._heard)
            self.traces.ask(self.scorer)
        if self._config.streaming:
            door = StreamDoor(self, "Streams", config=config, function=self._function, heard=self._heard)
            self._answer(door.function, live)
        self.hooks = Hooks(self, "Hooks", config=config, state=state, function=self._function, heard=self._heard)
        self.hooks.ask(self.observer)
        release = publish(self.front_door, config=config, heard=self._heard)
        self.http_api = self._http_api(release.alias)
        errors = self.http_api.metric_server_error(period=cdk.Duration.minutes(1), statistic="Sum")
        release.roll_back_on(errors, heard=self._heard)

        cdk.CfnOutput(self, "ApiId", value=self.http_api.api_id)
        cdk.CfnOutput(self, "ApiUrl", value=self.http_api.api_endpoint)
        self._edge(config)
        cdk.CfnOutput(self, "EventBusName", value=self.hooks.bus.event_bus_name)
        cdk.CfnOutput(self, "WordsQueueUrl", value=self.hooks.queue.queue_url)
        cdk.CfnOutput(self, "TurnFunction", value=live.function_arn)
        cdk.CfnOutput(self, "SweepFunction", value=self.sweep.function_name)

    def _turn_runner(self) -> KitFunction:
        function = self._function(
            "Turn",
            handler=names.TURN_HANDLER,
            service="turn",
            description="Runs the steps of a turn",
            timeout_seconds=self._config.turn_timeout_seconds,
            memory_mb=self._config.memory_mb.turn,
            settings=model_settings(self._config, self._state),
            snap_start=not self._config.local,
            runs_tools=True,
            # A burst of turns must leave room for front door, sweep and observer.
            most_at_once=None if self._config.local else self._config.turn_concurrency or None,
        )
        grants = Grants(self._state, function.kit_role)
        grants.read_sessions().write_sessions().check_items().read_claims().write_claims()
        grants.send_jobs().wake_worker(self._config).sign_tokens().call_model(self._config)
        equip(function.kit_role, self._config)
        return function

    def _publish_turn(self, function: KitFunction) -> lambda_.Alias:
        """What callers are given is a published version: SnapStart works for those only."""
        alias = publish(function, config=self._config, heard=self._heard).alias
        # Runners are fenced, so a second attempt is harmless; it finds the lease, or the work done.
        alias.configure_async_invoke(retry_attempts=2, max_event_age=cdk.Duration.hours(1))
        # An interactive turn that outgrows one run asks for the next. Not in the role's own policy: the function waits
        # for that one, and this names what is made of the function.
        again = iam.PolicyStatement(sid="GoOn", actions=["lambda:InvokeFunction"], resources=[alias.function_arn])
        iam.Policy(self, "TurnGoesOn", roles=[function.kit_role], statements=[again])
        return alias

    def _front_door(self, turn: lambda_.IAlias) -> KitFunction:
        function = self._function(
            "FrontDoor",
            handler=names.API_HANDLER,
            service="api",
            description="Checks identity, takes input in, starts turns, waits for answers",
            timeout_seconds=LOCAL_FRONT_DOOR_SECONDS if self._config.local else FRONT_DOOR_SECONDS,
            memory_mb=self._config.memory_mb.front_door,
        )
        self._answer(function, turn)
        return function

    def _answer(self, function: KitFunction, turn: lambda_.IAlias) -> None:
        """What answers callers, by whichever door they come."""
        function.tell(
            {
                "TURNKEEPER_TURN_FUNCTION": turn.function_arn,
                "TURNKEEPER_DEFAULT_WAIT_SECONDS": str(self._config.default_wait_seconds),
                **identity_settings(self._config),
            }
        )
        grants = Grants(self._state, function.kit_role)
        grants.read_sessions("by_user", "by_tenant", "by_status").write_sessions().check_items()
        grants.read_claims().write_claims().erase_claims()
        grants.send_jobs().wake_worker(self._config).sign_tokens().start_turns(turn)

    def _observer(self) -> KitFunction:
        function = self._function(
            "Observer",
            handler=names.OBSERVE_HANDLER,
            service="observe",
            description="Derives metrics and alerts from the table's stream",
            timeout_seconds=60,
            memory_mb=self._config.memory_mb.observer,
            settings={"POWERTOOLS_METRICS_NAMESPACE": names.metric_namespace(self._config.name)},
        )
        self.observer_failures = self._follow_stream(function, "Observer")
        grants = Grants(self._state, function.kit_role)
        grants.read_stream().set_aside(self.observer_failures).read_claims().alert().wake_worker(self._config)
        return function

    def _scorer(self) -> KitFunction:
        """Apart from the observer, which must not be able to write what it watches over, and must not wait."""
        function = self._function(
            "Scorer",
            handler=names.SCORE_HANDLER,
            service="score",
            description="Scores turns that have ended, from the table's stream",
            timeout_seconds=60,
            memory_mb=self._config.memory_mb.scorer,
            settings={"POWERTOOLS_METRICS_NAMESPACE": names.metric_namespace(self._config.name)},
        )
        at_rest = lambda_.FilterCriteria.filter(
            {
                "eventName": lambda_.FilterRule.is_equal("MODIFY"),
                "dynamodb": {
                    "NewImage": {
                        "sk": {"S": lambda_.FilterRule.is_equal("HEAD")},
                        "status": {"S": lambda_.FilterRule.or_("idle", "completed", "stopped", "failed", "cancelled")},
                    }
                },
            }
        )
        self.scorer_failures = self._follow_stream(function, "Scorer", only=at_rest)
        grants = Grants(self._state, function.kit_role)
        grants.read_stream().set_aside(self.scorer_failures)
        # It also writes shadows and judges down: whole sessions, with what is large in them.
        grants.read_sessions().write_sessions().check_items().read_claims().write_claims()
        return function

    def _follow_stream(self, function: KitFunction, id: str, *, only: Mapping[str, object] | None = None) -> sqs.Queue:
        """Have a function see the table's changes, in their order. Returns where goes what it cannot work on."""
        # What runners tell readers meanwhile, ten times a second, is kept by nobody, and nobody's business here.
        but_tails = {"sk": {"S": lambda_.FilterRule.not_equals(names.STREAM_KEY)}}
        kept = lambda_.FilterCriteria.filter({"dynamodb": {"Keys": but_tails}})
        key = key_of(self, f"{id}Key" if only else "Key", self._config.kms_key_arn)
        undeliverable = encrypted_queue(self, f"{id}Failures", key, days=14)
        acknowledge(undeliverable, "AwsSolutions-SQS3", "This is a dead-letter queue: of the stream, not of a queue.")
        lambda_.CfnEventSourceMapping(
            self,
            f"{id}Source",
            function_name=function.function_arn,
            event_source_arn=self._state.table.table_stream_arn,
            starting_position="TRIM_HORIZON",
            batch_size=100,
            maximum_batching_window_in_seconds=1,
            parallelization_factor=2,
            # One poisoned record must not hold up a shard: halve, retry, then set it aside.
            bisect_batch_on_function_error=True,
            maximum_retry_attempts=5,
            maximum_record_age_in_seconds=6 * 3600,
            function_response_types=["ReportBatchItemFailures"],
            filter_criteria=lambda_.CfnEventSourceMapping.FilterCriteriaProperty(
                filters=[lambda_.CfnEventSourceMapping.FilterProperty(pattern=str((only or kept)["pattern"]))]
            ),
            destination_config=lambda_.CfnEventSourceMapping.DestinationConfigProperty(
                on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(destination=undeliverable.queue_arn)
            ),
        ).node.add_dependency(function.kit_role)
        return undeliverable

    def _sweep(self, turn: lambda_.IAlias) -> KitFunction:
        function = self._function(
            "Sweep",
            handler=names.SWEEP_HANDLER,
            service="sweep",
            description="Finds dead leases, lost handoffs, stale reservations",
            timeout_seconds=55,  # done before the next one starts
            memory_mb=self._config.memory_mb.sweep,
            settings={"TURNKEEPER_TURN_FUNCTION": turn.function_arn},
        )
        grants = Grants(self._state, function.kit_role)
        grants.read_sessions("due").write_sessions().read_claims().erase_claims()
        grants.send_jobs().count_jobs().wake_worker(self._config).sign_tokens().start_turns(turn).alert()
        events.Rule(
            self,
            "SweepEachMinute",
            schedule=events.Schedule.rate(cdk.Duration.minutes(1)),
            targets=[targets.LambdaFunction(function, retry_attempts=0)],
        )
        return function

    def _http_api(self, front_door: lambda_.IFunction) -> apigw.HttpApi:
        integration = integrations.HttpLambdaIntegration(
            "FrontDoorIntegration", front_door, payload_format_version=apigw.PayloadFormatVersion.VERSION_2_0
        )
        api = apigw.HttpApi(
            self,
            "HttpApi",
            api_name=self._config.name.lower(),
            description="Turnkeeper's front door",
            default_integration=integration,
            default_authorizer=self._authorizer(),
            create_default_stage=False,
            cors_preflight=self._cors(),
        )
        if self._config.cors_origins:
            # $default takes OPTIONS too, and its authorizer would refuse a preflight, which carries no identity.
            api.add_routes(
                path="/{proxy+}",
                methods=[apigw.HttpMethod.OPTIONS],
                integration=integration,
                authorizer=apigw.HttpNoneAuthorizer(),
            )
        for path in names.PUBLIC_PATHS:
            api.add_routes(
                path=path,
                methods=[apigw.HttpMethod.GET, apigw.HttpMethod.HEAD],
                integration=integration,
                authorizer=apigw.HttpNoneAuthorizer(),
            )
        access_log = log_group(self, "AccessLog", self._config)
        stage = apigw.HttpStage(
            self,
            "DefaultStage",
            http_api=api,
            stage_name="$default",
            auto_deploy=True,
            throttle=apigw.ThrottleSettings(
                rate_limit=self._config.api_rate_limit, burst_limit=self._config.api_burst_limit
            ),
        )
        # The L2 takes a TypeScript interface here that Python cannot make.
        cfn_stage = stage.node.default_child
        assert isinstance(cfn_stage, apigw.CfnStage)
        cfn_stage.access_log_settings = apigw.CfnStage.AccessLogSettingsProperty(
            destination_arn=access_log.log_group_arn, format=json.dumps(_ACCESS_LOG_FIELDS)
        )
        acknowledge(api, "AwsSolutions-APIG4", "Health and the OpenAPI document are public; every other route is not.")
        if self._config.local:
            acknowledge(self, "AwsSolutions-APIG4", "The local kit takes identity from headers.")
        return api

    def _edge(self, config: Config) -> None:
        if config.domain_name is None or config.certificate_arn is None:
            return
        edge = Edge(
            self,
            "Edge",
            api=self.http_api,
            domain_name=config.domain_name,
            certificate_arn=config.certificate_arn,
            web_acl_arn=config.web_acl_arn,
        )
        cdk.CfnOutput(self, "EdgeTarget", value=edge.distribution.distribution_domain_name)

    def _cors(self) -> apigw.CorsPreflightOptions | None:
        """What pages of the named origins may send and read. No cookies: an identity is in a header."""
        if not self._config.cors_origins:
            return None
        return apigw.CorsPreflightOptions(
            allow_origins=list(self._config.cors_origins),
            allow_methods=[apigw.CorsHttpMethod.GET, apigw.CorsHttpMethod.POST, apigw.CorsHttpMethod.DELETE],
            allow_headers=list(CORS_HEADERS),
            expose_headers=list(CORS_EXPOSED),
            max_age=cdk.Duration.hours(1),
        )

    def _authorizer(self) -> apigw.IHttpRouteAuthorizer:
        if self._config.identity == "jwt":
            assert self._config.jwt_issuer is not None
            return authorizers.HttpJwtAuthorizer(
                "Jwt", self._config.jwt_issuer, jwt_audience=list(self._config.jwt_audience)
            )
        if self._config.identity == "iam":
            return authorizers.HttpIamAuthorizer()
        return apigw.HttpNoneAuthorizer()

    def _function(self, id: str, *, runs_tools: bool = False, **how: Any) -> KitFunction:
        where = self._config.vpc_functions
        return KitFunction(
            self,
            id,
            config=self._config,
            state=self._state,
            packaging=self._packaging,
            network=self._network if where == "all" or (where == "runners" and runs_tools) else None,
            **how,
        )
