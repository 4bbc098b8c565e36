"""Errors of Amazon SQS, as its clients expect them. One function for each error, and one place that translates the queue's errors.

`type` is the error's name in the JSON protocol, `code` the one in the Query protocol; both are from AWS's own models. `status` is nearly
always 400, whatever status HTTP defines for it, since clients look at the code.
"""

from __future__ import annotations

from jobqueue.errors import BadRequest, CallerError, Full, IdConflict, QueueError, TooLarge, Unavailable

_SIMPLE = "AWS.SimpleQueueService."

MESSAGE_BYTES_MAX = 1_048_576


class SqsError(CallerError):
    """An error, as it is answered.

    sender: whether it is the caller's fault; retry_after: seconds, if a retry makes sense; whole: for an entry of a batch, that this error
    makes the whole batch fail.
    """

    whole = False
    code = "bad_request"
    retry_after: int | None = None

    def __init__(self, type: str, code: str, message: str, status: int = 400) -> None:
        # Text quoted from a header may not be UTF-8; such bytes arrive as lone surrogates.
        super().__init__(message.encode("utf-8", "replace").decode())
        self.type = type
        self.code = code
        self.status = status

    @property
    def message(self) -> str:
        """The error's text."""
        return self.detail

    @property
    def sender(self) -> bool:
        """Whether the caller is at fault."""
        return self.status < 500


def no_queue() -> SqsError:
    """There is no such queue."""
    return SqsError("QueueDoesNotExist", f"{_SIMPLE}NonExistentQueue", "The specified queue does not exist.")


def queue_exists(message: str) -> SqsError:
    """A queue of that name has other attributes."""
    return SqsError("QueueNameExists", "QueueAlreadyExists", message)


def invalid(message: str) -> SqsError:
    """A parameter has an invalid value."""
    return SqsError("InvalidParameterValueException", "InvalidParameterValue", message)


def invalid_value(value: object, name: str, reason: str) -> SqsError:
    """The same, in AWS's usual wording."""
    return invalid(f"Value {str(value)[:200]} for parameter {name} is invalid. Reason: {reason}")


def missing(name: str) -> SqsError:
    """A parameter is missing."""
    return SqsError("MissingRequiredParameterException", "MissingParameter", f"The request must contain the parameter {name}.")


def invalid_attribute_name(name: str) -> SqsError:
    """There is no such attribute, or it cannot be set."""
    return SqsError("InvalidAttributeName", "InvalidAttributeName", f"Unknown Attribute {name[:200]}.")


def invalid_attribute_value(message: str) -> SqsError:
    """An attribute has an invalid value."""
    return SqsError("InvalidAttributeValue", "InvalidAttributeValue", message)


def invalid_contents(message: str = "Invalid binary character was found in the message body.") -> SqsError:
    """A message contains invalid characters."""
    return SqsError("InvalidMessageContents", "InvalidMessageContents", message)


def invalid_handle(handle: str) -> SqsError:
    """A receipt handle was not issued by this server."""
    return SqsError(
        "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", f'The input receipt handle "{handle[:200]}" is not a valid receipt handle.'
    )


def empty_batch() -> SqsError:
    """A batch without entries."""
    return _batch("EmptyBatchRequest", "There should be at least one entry in the request.")


def too_many_entries(count: int) -> SqsError:
    """A batch of more than ten."""
    return _batch("TooManyEntriesInBatchRequest", f"Maximum number of entries per request are 10. You have sent {count}.")


def repeated_id(entry: str) -> SqsError:
    """Two entries with one id."""
    return _batch("BatchEntryIdsNotDistinct", f"Id {entry[:80]} repeated.")


def invalid_entry_id() -> SqsError:
    """An entry's id is invalid."""
    return _batch(
        "InvalidBatchEntryId",
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
    )


def batch_too_long(size: int) -> SqsError:
    """A batch with more bytes than one message can have."""
    return _batch(
        "BatchRequestTooLong",
        f"Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {size} bytes.",
    )


def unsupported(message: str) -> SqsError:
    """A feature that this server does not have."""
    return _batch("UnsupportedOperation", message)


def _batch(kind: str, message: str) -> SqsError:
    return SqsError(kind, _SIMPLE + kind, message)


def no_resource(message: str) -> SqsError:
    """The queue or task does not exist, in the actions on move tasks."""
    return SqsError("ResourceNotFoundException", "ResourceNotFoundException", message, 404)


def throttled(message: str, retry_after: int = 1) -> SqsError:
    """A limit is reached. 429, since SDKs retry that in every mode, but not a 400 of the same name."""
    error = SqsError("RequestThrottled", "RequestThrottled", message, 429)
    error.retry_after = retry_after
    return error


def unavailable(message: str, retry_after: int = 1) -> SqsError:
    """The server cannot do it now."""
    error = SqsError("ServiceUnavailable", "ServiceUnavailable", message, 503)
    error.retry_after = retry_after
    return error


def invalid_action(message: str) -> SqsError:
    """There is no such action."""
    return SqsError("InvalidAction", "InvalidAction", message)


def unreadable(message: str) -> SqsError:
    """A body that its protocol does not allow."""
    return SqsError("SerializationException", "MalformedInput", message)


def no_credentials() -> SqsError:
    """The server requires a token, and the request has none."""
    return SqsError("MissingAuthenticationTokenException", "MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def unknown_token() -> SqsError:
    """The server does not know the token."""
    return SqsError("UnrecognizedClientException", "InvalidClientTokenId", "The security token included in the request is invalid.", 403)


def denied(message: str) -> SqsError:
    """The token does not permit this, or requests from there are not permitted."""
    return SqsError("AccessDeniedException", "AccessDenied", message, 403)


_OTHERS = {
    "not_found": ("InvalidAddress", "InvalidAddress", 404),
    "method_not_allowed": ("InvalidAddress", "InvalidHttpRequest", 405),
    "request_timeout": ("RequestTimeout", "RequestTimeout", 408),
    "unsupported_media_type": ("SerializationException", "MalformedInput", 415),
    "http_version": ("InvalidHttpRequest", "InvalidHttpRequest", 505),
}
"""Type, code and status of errors that occur before an action begins."""


def translated(error: QueueError) -> SqsError:
    """An error of the queue, or of the server around it, as SQS's clients know it."""
    if isinstance(error, SqsError):
        return error
    message = error.detail.encode("utf-8", "replace").decode()
    if isinstance(error, Full):
        return throttled(message, error.retry_after)
    if isinstance(error, Unavailable):
        return unavailable(message, error.retry_after)
    if isinstance(error, BadRequest | TooLarge | IdConflict):
        return invalid(f"One or more parameters are invalid. Reason: {message}")
    if error.code == "unknown_queue":
        return no_queue()
    if error.code == "unauthorized":
        return unknown_token()
    if error.code == "forbidden":
        return denied(message)
    if error.code == "unknown_task":
        return no_resource("Task does not exist.")
    if error.code in _OTHERS:
        kind, code, status = _OTHERS[error.code]
        return SqsError(kind, code, message, status)
    if isinstance(error, CallerError) or error.code != "internal_error":
        return invalid(message)
    return SqsError("InternalFailure", "InternalFailure", message, 500)
