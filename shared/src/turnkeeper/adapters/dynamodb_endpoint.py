"""Where DynamoDB is, and connections to it, without a client of botocore: making one reads a megabyte of services and
regions, and takes as long as importing botocore's signer, connections and credentials.

The address comes from the rules that DynamoDB publishes with botocore. Where somebody has configured another, a client
is made and asked.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.endpoint import EndpointCreator
from botocore.endpoint_provider import EndpointProvider
from botocore.model import ServiceModel

from turnkeeper.adapters.dynamodb_connections import Connections

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient

_REGION = re.compile(r"(?!.*fips)[a-z]+(-[a-z0-9]+)+")
_CONFIGURED = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"}
_SOCKET = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


def region_and_url(session: Session, endpoint_url: str | None, client: Callable[[], DynamoDBClient]) -> tuple[str, str]:
    """What a client of this session would sign for, and where it would send to.

    Raises:
        botocore.exceptions.NoRegionError: nobody says a region.
        botocore.exceptions.InvalidRegionError: what is said is none.
    """
    region = session.get_config_variable("region")
    if not _REGION.fullmatch(region or "") or _is_configured(session, endpoint_url):
        meta = client().meta
        return meta.region_name, meta.endpoint_url
    if endpoint_url:
        return region, endpoint_url
    loader: Any = session.get_component("data_loader")
    rules = loader.load_service_model("dynamodb", "endpoint-rule-set-1")
    found = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
        Region=region, UseFIPS=False, UseDualStack=False
    )
    return region, found.url


def _is_configured(session: Session, endpoint_url: str | None) -> bool:
    """Whether the environment or a file says more of where it is than the region."""
    variants = ("use_fips_endpoint", "use_dualstack_endpoint")
    if any(session.get_config_variable(name) for name in variants):
        return True
    if endpoint_url:
        return False
    return bool({"endpoint_url", "services"} & set(session.get_scoped_config()) or _CONFIGURED & set(os.environ))


def connections_to(
    url: str, session: Session, region: str, timeouts: tuple[float, float], connections: int
) -> Connections:
    """Connections as a client has them, with its proxies and certificates.

    Args:
        timeouts: seconds to connect, and to read.
        connections: that are kept at most.
    """
    creator: Any = EndpointCreator(session.get_component("event_emitter"))
    made: Connections = creator.create_endpoint(
        ServiceModel({"metadata": {"endpointPrefix": "dynamodb"}}, "dynamodb"),
        region,
        url,
        verify=session.get_config_variable("ca_bundle"),
        timeout=timeouts,
        max_pool_connections=connections,
        http_session_cls=partial(Connections, f"{url.rstrip('/')}/"),
        socket_options=_SOCKET,
    ).http_session
    return made
