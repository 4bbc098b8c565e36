"""The JSON protocol (AWS JSON 1.0): the action in a header, its input and its result as JSON objects."""

from __future__ import annotations

from typing import Any

import msgspec

from jobqueue.api.dialects.sqs.call import Spoken
from jobqueue.api.dialects.sqs.errors import SqsError, missing, unreadable
from jobqueue.api.native.complaints import bad_field
from jobqueue.http.answers import Answer

MEDIA = b"application/x-amz-json-1.0"
TARGET = "AmazonSQS."
"""The part of the X-Amz-Target header before the action's name."""

QUOTES_MAX = 16_384
"""The most unescaped quotes in a body; a batch of ten messages with ten attributes each has about 2,000. Half a million texts would take a
fifth of a second to decode, which blocks all other requests.
"""

_LONG_BYTES = 65_536
_NOTHING = b"{}"
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)


class JsonError(msgspec.Struct, frozen=True):
    """An error of the SQS dialect, in its JSON protocol."""

    type: str = msgspec.field(name="__type")
    message: str


class Decoder:
    """Decodes one action's input. As in AWS, unknown fields are ignored, and null counts as missing."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        # Some SDKs write numbers as strings, so these are accepted.
        self._decode = msgspec.json.Decoder(kind, strict=False).decode

    def __call__(self, body: bytes) -> Any:
        """The input. Raises SqsError."""
        if len(body) > _LONG_BYTES and body.count(b'"') - body.count(b'\\"') > QUOTES_MAX:
            raise unreadable("The request's body holds more texts than any request has.")
        try:
            return self._decode(body or _NOTHING)
        except _UNREADABLE as error:
            return self._again(body, error)

    def _again(self, body: bytes, error: Exception) -> Any:
        if not isinstance(error, msgspec.ValidationError) or b"null" not in body:
            raise refusal(error) from None
        try:
            return msgspec.convert(_filled(msgspec.json.decode(body)), self._kind, strict=False)
        except _UNREADABLE as still:
            raise refusal(still) from None


def _filled(value: Any) -> Any:
    """The value without any nulls."""
    if isinstance(value, dict):
        return {name: _filled(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_filled(inner) for inner in value if inner is not None]
    return value


def refusal(error: Exception) -> SqsError:
    """A decoder's error."""
    if not isinstance(error, msgspec.ValidationError):
        return unreadable(f"The request's body cannot be read: {str(error)[:200]}.")
    bad = bad_field(error)
    if bad.reason == "is missing" and bad.field is not None:
        return missing(bad.field)
    return unreadable(bad.detail)


def answer(result: Any, spoken: Spoken) -> Answer:
    """The answer for a result, None for an action without one."""
    body = _NOTHING if result is None else _encode(result)
    return Answer(200, body, MEDIA, b"x-amzn-RequestId: %b\r\n" % spoken.id.encode())


def failure(error: SqsError, spoken: Spoken) -> Answer:
    """The answer to a call that failed."""
    body = _encode(JsonError(f"com.amazonaws.sqs#{error.type}", error.message))
    lines = f"x-amzn-RequestId: {spoken.id}\r\nx-amzn-query-error: {error.code};{'Sender' if error.sender else 'Receiver'}\r\n"
    return Answer(error.status, body, MEDIA, lines.encode())
