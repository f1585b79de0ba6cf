"""Streams of the Messages API without what the SDK's client does around each request: two thirds of a call's CPU time.

``client.post`` copies its options three times, merges five layers of headers and several of the query, and makes an
address of parts, to send what differs from the last request in its body alone. Here a request is made by the client
once for each kind (path, betas, timeouts), and then repeated with another body. Connections, headers, errors and the
reading of events are the SDK's own; ``tests/unit/adapters/test_anthropic_requests.py`` holds the two ways together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anthropic
    import httpx2

#: Requests that are known; more than that have timeouts of their own each.
_KNOWN = 64


class MessageStreams:
    """One attempt each, of a client that signs no requests. Safe to share between threads."""

    def __init__(self, client: anthropic.Anthropic) -> None:
        self.client = client
        # What is private here is what ``client.post`` calls, one after the other.
        self._client: Any = client
        self._kinds: dict[object, httpx2.Request] = {}

    def open(self, path: str, content: bytes, options: Mapping[str, Any]) -> anthropic.Stream[object]:
        """As ``client.post(path, content=content, options=options, stream=True)`` without retries.

        Raises:
            anthropic.APIError: there is no answer, or one that refuses.
            httpx2.HTTPError: a refusal broke off.
        """
        import anthropic
        import httpx2

        kind = self._kind(path, options)
        request = httpx2.Request(
            "POST", kind.url, headers=kind.headers, content=content, extensions=dict(kind.extensions)
        )
        try:
            response = self._client._client.send(request, stream=True)
        except httpx2.TimeoutException as error:
            raise anthropic.APITimeoutError(request=request) from error
        except Exception as error:
            raise anthropic.APIConnectionError(request=request) from error
        if not response.is_success:
            response.read()
            raise self._client._make_status_error_from_response(response)
        return anthropic.Stream[object](cast_to=object, response=response, client=self._client)

    def _kind(self, path: str, options: Mapping[str, Any]) -> httpx2.Request:
        timeout = options["timeout"]
        name = (path, tuple(options["headers"].items()), tuple(timeout.as_dict().items()))
        if (known := self._kinds.get(name)) is None:
            from anthropic._models import FinalRequestOptions

            asked = FinalRequestOptions.construct(method="post", url=path, content=b"", **options)
            known = self._client._build_request(asked)
            for own in ("Content-Length", "Cookie"):
                known.headers.pop(own, None)
            if len(self._kinds) >= _KNOWN:
                self._kinds.clear()
            self._kinds[name] = known
        return known
