"""Connections to DynamoDB: urllib3's, with the proxies, certificates and errors of a client of botocore.

What botocore sends with looks for its proxy and its pool at each request, can wait for leave to send a body, as only S3
asks for, and copies all headers: two fifths of what sending costs.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import urllib3
from botocore import exceptions as told
from botocore.httpsession import ProxyConfiguration, create_urllib3_context, get_cert_path, mask_proxy_url
from urllib3 import exceptions as met

_PORTS = {"http": 80, "https": 443}


class Answer(NamedTuple):
    status_code: int
    content: bytes


class Connections:
    """What one address is asked over. Safe to share between threads.

    Takes what botocore's :class:`~botocore.endpoint.EndpointCreator` has found in the environment.
    """

    def __init__(
        self,
        url: str,
        *,
        verify: Any,
        proxies: Mapping[str, str],
        timeout: tuple[float, float],
        max_pool_connections: int,
        socket_options: list[tuple[int, int, int]],
        **_: None,  # no certificate of ours, nor settings of the proxy
    ) -> None:
        """
        Args:
            verify: whether the certificate is checked, or the file with those that it may be signed with.
            proxies: by the scheme of what is sent.
            timeout: seconds to connect, and to read.
            max_pool_connections: that are kept at most.
        """
        checked = url.lower().startswith("https") and bool(verify)
        kept: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            "maxsize": max_pool_connections,
            "socket_options": socket_options,
            "ssl_context": create_urllib3_context(),
            "cert_reqs": "CERT_REQUIRED" if checked else "CERT_NONE",
            "ca_certs": get_cert_path(verify) if checked else None,
        }
        of_environment = ProxyConfiguration(proxies=proxies)
        self._proxy = of_environment.proxy_url_for(url)
        if self._proxy:
            headers = of_environment.proxy_headers_for(self._proxy)
            manager: urllib3.PoolManager = urllib3.proxy_from_url(self._proxy, proxy_headers=headers, **kept)
        else:
            manager = urllib3.PoolManager(**kept)
        self.url = url
        place = urllib3.util.parse_url(url)
        #: As a request names it: with the port, where that is not the usual one.
        self.host = str(place.host if place.port in {None, _PORTS[str(place.scheme)]} else place.netloc)
        # A proxy that passes requests on has to be told where to.
        self._target = url if self._proxy and place.scheme == "http" else place.request_uri
        self._pool = manager.connection_from_url(url)

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Sent once: nothing is tried again, and no redirect is followed.

        Raises:
            HTTPClientError: there is no answer.
        """
        try:
            answer = self._pool.urlopen(
                "POST",
                self._target,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                decode_content=False,
            )
            return Answer(answer.status, answer.data)
        except Exception as error:  # as botocore does
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> Exception:
        """As botocore tells it."""
        match error:
            case met.SSLError():
                return told.SSLError(endpoint_url=self.url, error=error)
            case met.NewConnectionError() | socket.gaierror():
                return told.EndpointConnectionError(endpoint_url=self.url, error=error)
            case met.ProxyError():
                return told.ProxyConnectionError(proxy_url=mask_proxy_url(self._proxy), error=error)
            case met.ConnectTimeoutError():
                return told.ConnectTimeoutError(endpoint_url=self.url, error=error)
            case met.ReadTimeoutError():
                return told.ReadTimeoutError(endpoint_url=self.url, error=error)
            case met.ProtocolError():
                return told.ConnectionClosedError(endpoint_url=self.url, error=error)
        return told.HTTPClientError(error=error)
