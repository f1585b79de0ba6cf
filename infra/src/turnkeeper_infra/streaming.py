"""The front door with answers that stream, where a stage asks for it: the same code as a server, in a function of its
own behind the Lambda Web Adapter and a function URL (docs/decisions/0131).
"""

from __future__ import annotations

from collections.abc import Callable

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from turnkeeper_infra import names
from turnkeeper_infra.alarms import Heard, alarm
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import KitFunction
from turnkeeper_infra.releases import publish

_PORT = 8000
_SPARE_SECONDS = 30
"""Between the end of a stream, which says where to go on, and that of the function, which says nothing."""

ADAPTER = "arn:<partition>:lambda:<region>:753240598075:layer:LambdaAdapterLayerArm64:26"
"""The Lambda Web Adapter 1.0, from the account that AWS publishes it in."""


class StreamDoor(Construct):
    """Its address is the output `StreamUrl`."""

    def __init__(
        self, scope: Construct, id: str, *, config: Config, function: Callable[..., KitFunction], heard: Heard
    ) -> None:
        super().__init__(scope, id)
        self.function = function(
            "Stream",
            handler=names.STREAM_PROGRAM,
            service="stream",
            description="The front door as a server: answers come as they are made",
            timeout_seconds=config.stream_seconds + _SPARE_SECONDS,
            memory_mb=config.memory_mb.stream,
            settings=_settings(config),
            # Each stream holds one, and nothing stands in front that counts requests.
            most_at_once=config.stream_concurrency or None,
        )
        published = ADAPTER.replace("<partition>", cdk.Aws.PARTITION).replace("<region>", cdk.Aws.REGION)
        adapter = config.stream_adapter_arn or published
        self.function.add_layers(lambda_.LayerVersion.from_layer_version_arn(self, "WebAdapter", adapter))
        alias = publish(self.function, config=config, heard=heard).alias
        signed = config.identity == "iam" and not config.stream_public
        url = alias.add_function_url(
            auth_type=lambda_.FunctionUrlAuthType.AWS_IAM if signed else lambda_.FunctionUrlAuthType.NONE,
            invoke_mode=lambda_.InvokeMode.RESPONSE_STREAM,
        )
        cdk.CfnOutput(scope, "StreamUrl", value=url.url)
        period = cdk.Duration.minutes(5)
        errors = self.function.metric_errors(period=period, statistic="Sum")
        alarm(self, "Errors", errors, 3, "What streams answers fails", heard=heard, section="functions")
        throttles = self.function.metric_throttles(period=period, statistic="Sum")
        what = "More streams are asked for than may be open: raise stream_concurrency, or look who asks"
        alarm(self, "Throttled", throttles, 5, what, heard=heard, section="functions")


def _settings(config: Config) -> dict[str, str]:
    settings = {
        # Of the adapter: its program is the function's handler, and asks for answers until one comes.
        "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
        "AWS_LWA_INVOKE_MODE": "response_stream",
        "AWS_LWA_PORT": str(_PORT),
        "AWS_LWA_READINESS_CHECK_PATH": "/v1/health",
        "TURNKEEPER_API_PORT": str(_PORT),
        "TURNKEEPER_WEB_ADAPTER": "true",
        "TURNKEEPER_STREAM_SECONDS": str(config.stream_seconds),
    }
    if config.cors_origins:
        settings["TURNKEEPER_CORS_ORIGINS"] = ",".join(config.cors_origins)
    if config.jwt_issuer:
        settings["TURNKEEPER_JWT_ISSUER"] = config.jwt_issuer
        settings["TURNKEEPER_JWT_AUDIENCE"] = ",".join(config.jwt_audience)
    return settings
