"""What a failed DynamoDB request means: a condition, a defect, nothing done, or nobody knows."""

from __future__ import annotations

from typing import Any, Literal

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from turnkeeper.adapters.table_values import InvalidOperation, item_from_wire
from turnkeeper.table import ConditionFailed, Item

#: Nothing was done and later it may be; or it may have been done and the answer is lost.
Trouble = Literal["busy", "unknown"]

#: What a request can fail with before or after it reached the service.
FAILURES = (ClientError, HTTPClientError, BotoConnectionError)

_BUSY = {
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
}

#: Rights, credentials and tables are its operator's to give and to take.
_REFUSED = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "ResourceNotFoundException",
    "UnrecognizedClientException",
}


def trouble_of(error: Exception, *, has_written: bool = False) -> Trouble:
    """Whether a retry may help, and what is certain by then.

    Args:
        has_written: it has let this process write. What it refuses since then somebody has taken away, and may give
            back: an answer that was paid for waits for it.

    Raises:
        ConditionFailed: conditions failed.
        InvalidOperation: DynamoDB calls it invalid.
        Exception: the error itself, where a retry cannot help (no such table, no permission).
    """
    if not isinstance(error, ClientError):
        # Without a connection nothing was sent; everything later is an answer lost.
        return "busy" if isinstance(error, ConnectTimeoutError | EndpointConnectionError) else "unknown"
    code = error.response.get("Error", {}).get("Code", "")
    if code == "TransactionCanceledException":
        return _trouble_of_cancellation(error)
    if code == "ConditionalCheckFailedException":
        raise ConditionFailed({0: _item(error.response)}) from error
    if code == "ValidationException":
        raise InvalidOperation(_message(error)) from error
    if code in _BUSY or (has_written and code in _REFUSED):
        return "busy"
    # TransactionInProgress: an earlier attempt of ours is still under way, and may yet succeed.
    http_status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "TransactionInProgressException" or http_status >= 500:
        return "unknown"
    raise error


def _trouble_of_cancellation(error: ClientError) -> Trouble:
    response: dict[str, Any] = dict(error.response)
    reasons = response.get("CancellationReasons") or []
    codes = [reason.get("Code") for reason in reasons]
    # A failed condition was judged on committed items, so it stands even where another operation of the same write
    # met a conflict; trying again could only find out whether that one fails too.
    failures = {n: _item(reason) for n, reason in enumerate(reasons) if codes[n] == "ConditionalCheckFailed"}
    if failures:
        raise ConditionFailed(failures) from error
    for number, reason in enumerate(reasons):
        if codes[number] in {"ValidationError", "ItemCollectionSizeLimitExceeded"}:
            raise InvalidOperation(f"operation {number}: {reason.get('Message')}") from error
    if _BUSY & set(codes):
        return "busy"
    raise error


def _item(holder: Any) -> Item | None:
    item = holder.get("Item")
    return item_from_wire(item) if item else None


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", error))
