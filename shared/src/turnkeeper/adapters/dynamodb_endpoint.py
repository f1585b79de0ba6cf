"""Where DynamoDB is, and connections to it, without a client of botocore: making one reads a megabyte of services and
regions, and takes as long as importing botocore's signer, connections and credentials.

The address comes from the rules that DynamoDB publishes with botocore. Where somebody has configured another, a client
is made and asked. In a Lambda all that is to be known stands in the environment: there, no session of botocore is made
either, which would import what makes clients.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.endpoint import EndpointCreator
from botocore.endpoint_provider import EndpointProvider
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceModel

from turnkeeper.adapters.dynamodb_connections import Connections

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.hooks import BaseEventHooks
    from botocore.loaders import Loader
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient

_REGION = re.compile(r"(?!.*fips)[a-z]+(-[a-z0-9]+)+")
_CONFIGURED = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"}
_SOCKET = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


#: All that the environment may say of AWS without a session being asked what it means.
_PLAIN = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"}
_PLAIN |= {"AWS_EXECUTION_ENV", "AWS_EC2_METADATA_DISABLED"}
_OF_LAMBDA = ("AWS_LAMBDA_", "AWS_LWA_", "AWS_XRAY_")
_FILES = ("~/.aws/config", "~/.aws/credentials", "~/.boto")


class Surroundings(NamedTuple):
    """What a process is told of AWS."""

    region: str | None
    credentials: Credentials | None
    #: More is said of where services are than the region; of the second, unless an address is given with it.
    variants: bool
    addresses: bool
    ca_bundle: str | None
    loader: Loader
    events: BaseEventHooks


def of_environment(region: str | None, named: Credentials | None, loader: Loader) -> Surroundings | None:
    """As a session would have it; ``None`` where the environment does not say it all, and in words that are plain.

    Args:
        region: that comes before what the environment says.
        named: the environment's credentials.
    """
    said = {name for name in os.environ if name.startswith("AWS_") and not name.startswith(_OF_LAMBDA)}
    if named is None or not said <= _PLAIN or "BOTO_CONFIG" in os.environ or any(map(_exists, _FILES)):
        return None
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    return Surroundings(region, named, False, False, None, loader, HierarchicalEmitter())


def of_session(session: Session) -> Surroundings:
    """As a session has it, which reads botocore's files as well."""
    told = session.get_config_variable
    named = {"endpoint_url", "services"} & set(session.get_scoped_config()) or _CONFIGURED & set(os.environ)
    return Surroundings(
        told("region"),
        session.get_credentials(),
        variants=any(told(name) for name in ("use_fips_endpoint", "use_dualstack_endpoint")),
        addresses=bool(named),
        ca_bundle=told("ca_bundle"),
        loader=session.get_component("data_loader"),
        events=session.get_component("event_emitter"),
    )


def _exists(file: str) -> bool:
    return os.path.exists(os.path.expanduser(file))  # noqa: PTH110, PTH111 - a Path raises where there is no home


def region_and_url(
    around: Surroundings, endpoint_url: str | None, client: Callable[[], DynamoDBClient]
) -> tuple[str, str]:
    """What a client would sign for, and where it would send to.

    Raises:
        botocore.exceptions.NoRegionError: nobody says a region.
        botocore.exceptions.InvalidRegionError: what is said is none.
    """
    region = around.region or ""
    if not _REGION.fullmatch(region) or around.variants or (around.addresses and not endpoint_url):
        meta = client().meta
        return meta.region_name, meta.endpoint_url
    if endpoint_url:
        return region, endpoint_url
    loader: Any = around.loader
    rules = loader.load_service_model("dynamodb", "endpoint-rule-set-1")
    found = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
        Region=region, UseFIPS=False, UseDualStack=False
    )
    return region, found.url


def connections_to(
    url: str, around: Surroundings, region: str, timeouts: tuple[float, float], connections: int
) -> Connections:
    """Connections as a client has them, with its proxies and certificates.

    Args:
        timeouts: seconds to connect, and to read.
        connections: that are kept at most.
    """
    creator: Any = EndpointCreator(around.events)
    made: Connections = creator.create_endpoint(
        ServiceModel({"metadata": {"endpointPrefix": "dynamodb"}}, "dynamodb"),
        region,
        url,
        verify=around.ca_bundle,
        timeout=timeouts,
        max_pool_connections=connections,
        http_session_cls=partial(Connections, f"{url.rstrip('/')}/"),
        socket_options=_SOCKET,
    ).http_session
    return made
