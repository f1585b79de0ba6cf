"""A domain of one's own in front of the API, and a web ACL: CloudFront, which caches nothing here."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from constructs import Construct

from turnkeeper_infra.acknowledge import acknowledge

READ_SECONDS = 35
"""Longer than API Gateway takes to give up: whoever waits is answered by the API, not by CloudFront."""


class Edge(Construct):
    """Hands every request on as it came, but for the host's name. Certificate and web ACL are in us-east-1, as
    CloudFront wants them, so they are given, not made.

    The API's own address goes on answering whoever has a token: HTTP APIs take neither a web ACL nor a resource policy,
    and CloudFront needs the address (docs/threat-model.md says what that leaves).
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        api: apigw.HttpApi,
        domain_name: str,
        certificate_arn: str,
        web_acl_arn: str | None = None,
    ) -> None:
        super().__init__(scope, id)
        host = cdk.Fn.select(2, cdk.Fn.split("/", api.api_endpoint))
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment="Turnkeeper's front door",
            domain_names=[domain_name],
            certificate=acm.Certificate.from_certificate_arn(self, "Certificate", certificate_arn),
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021,
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            web_acl_id=web_acl_arn,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.HttpOrigin(
                    host,
                    protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
                    origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2],
                    read_timeout=cdk.Duration.seconds(READ_SECONDS),
                ),
                allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
                cache_policy=cloudfront.CachePolicy.CACHING_DISABLED,
                origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
            ),
        )
        acknowledge(self.distribution, "AwsSolutions-CFR1", "Callers may be anywhere; the web ACL can say otherwise.")
        acknowledge(self.distribution, "AwsSolutions-CFR3", "The API logs every request that gets to it.")
        if web_acl_arn is None:
            acknowledge(self.distribution, "AwsSolutions-CFR2", "A web ACL is the stage file's choice.")
