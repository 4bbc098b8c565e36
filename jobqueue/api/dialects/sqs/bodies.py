"""A message's body and attributes as a job's payload and headers, and the checksums that clients verify.

A body that is a JSON object or array becomes the payload, byte for byte, so native workers see JSON. Any other text becomes a payload that
is a JSON string. So each payload corresponds to exactly one body, and vice versa.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.dialects.sqs.errors import SqsError, invalid, invalid_contents
from jobqueue.errors import BadRequest
from jobqueue.http.body import check_depth
from jobqueue.model import Header

TRACE = "AWS.TraceHeader"
SENDER = "AWS.SenderId"
DEDUPLICATION = "AWS.DeduplicationId"
RESERVED = "AWS."
"""Headers that store system attributes. No message attribute can have such a name."""

ATTRIBUTES_MAX = 10

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_TYPE = re.compile(r"(String|Number|Binary)(\.[^\x00-\x1f\x7f]+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Written so that each text matches in only one way: an ambiguous pattern would try all ways, which takes minutes for many digits."""
_TYPE_CHARS_MAX = 256
_skim = msgspec.json.Decoder(Raw).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class MessageAttributeValue(msgspec.Struct, kw_only=True, gc=False):
    """A message attribute: text or bytes."""

    DataType: str
    StringValue: str | UnsetType = UNSET
    BinaryValue: bytes | UnsetType = UNSET


Attributes = Mapping[str, MessageAttributeValue]


# Bodies.


def fit(text: str) -> str:
    """A text that XML can contain, with U+FFFD for other characters. Only jobs that were enqueued natively can have such characters."""
    return text if text.isprintable() else _UNFIT.sub("\ufffd", text)


def fit_body(body: Raw, octets: bytes) -> tuple[Raw, bytes]:
    """A body that `body_of` made, for XML: its checksum is that of the received text."""
    text = octets.decode()
    fitting = fit(text)
    return (body, octets) if fitting == text else (Raw(_encode(fitting)), fitting.encode())


def fit_header(header: Header) -> Header:
    """A header, in the same way."""
    if is_binary(header):
        return header
    return Header(header.name, fit(header.value.decode("utf-8", "replace")).encode(), header.type)


def check_text(text: str) -> None:
    """Raise SqsError for a text with characters that XML cannot contain."""
    if not text.isprintable() and _UNFIT.search(text) is not None:
        raise invalid_contents()


def payload_of(text: str, octets: bytes) -> bytes:
    """A body as a payload. octets: the same in UTF-8."""
    return octets if text[0] in "{[" and _is_json(octets) else _encode(text)


def _is_json(octets: bytes) -> bool:
    try:
        _skim(octets)
        check_depth("payload", octets)
    except (msgspec.DecodeError, RecursionError, BadRequest):
        return False
    return True


def body_of(payload: bytes) -> tuple[Raw, bytes]:
    """A payload as a body: as a JSON string, and in UTF-8."""
    if payload[:1] == b'"':
        if b"\\" not in payload:
            return Raw(payload), payload.strip()[1:-1]
        try:
            return Raw(payload), _text(payload).encode()
        except msgspec.DecodeError:
            # A lone surrogate, which a native job can contain but a text cannot.
            pass
    return Raw(_encode(payload.decode())), payload


def md5_of(octets: bytes) -> str:
    """A body's checksum."""
    return md5(octets, usedforsecurity=False).hexdigest()


# Attributes.


def headers_of(given: Attributes | UnsetType) -> tuple[Header, ...]:
    """Message attributes as headers, in the order of their names. Raises SqsError."""
    if given is UNSET or not given:
        return ()
    if len(given) > ATTRIBUTES_MAX:
        raise invalid(f"Number of message attributes [{len(given)}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].")
    return tuple(_header(name, given[name]) for name in sorted(given))


def _header(name: str, given: MessageAttributeValue) -> Header:
    lower = name.lower()
    if _NAME.fullmatch(name) is None or lower.startswith(("aws.", "amazon.")) or name.startswith(".") or name.endswith(".") or ".." in name:
        raise invalid(
            f"The message attribute name '{name[:256]}' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_), hyphen (-), "
            "and period (.) characters, up to 256 of them. It may not begin or end with a period, hold two in a row, or begin with AWS. or "
            "Amazon."
        )
    return value_of(name, f"Message (user) attribute '{name}'", given)


def value_of(name: str, what: str, given: MessageAttributeValue) -> Header:
    """One attribute as a header. what: its name in errors. Raises SqsError."""
    kind = given.DataType
    match = _TYPE.fullmatch(kind) if len(kind) <= _TYPE_CHARS_MAX else None
    if match is None:
        raise invalid(f"{what} has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.")
    if match[1] == "Binary":
        if not given.BinaryValue or given.StringValue is not UNSET:
            raise _no_value(what, kind)
        return Header(name, given.BinaryValue, kind)
    text = given.StringValue
    if not text or given.BinaryValue is not UNSET:
        raise _no_value(what, kind)
    check_text(text)
    if match[1] == "Number" and _NUMBER.fullmatch(text) is None:
        raise invalid(f"Can't cast the value of {what} to a number.")
    return Header(name, text.encode(), kind)


def _no_value(what: str, kind: str) -> SqsError:
    return invalid(f"{what} must contain a non-empty value of type '{kind[:80]}'.")


def is_binary(header: Header) -> bool:
    """Whether a header's value is bytes, not text."""
    return header.type.startswith("Binary")


def attribute_of(header: Header) -> MessageAttributeValue:
    """A header as an attribute."""
    if is_binary(header):
        return MessageAttributeValue(DataType=header.type, BinaryValue=header.value)
    return MessageAttributeValue(DataType=header.type, StringValue=header.value.decode("utf-8", "replace"))


def attributes_md5(headers: Iterable[Header]) -> str:
    """The checksum of attributes, which are ordered by name: for each its name, its type, the kind of its value, and the value."""
    parts: list[Any] = []
    for header in headers:
        name, kind, value = header.name.encode(), header.type.encode(), header.value
        parts += (
            len(name).to_bytes(4),
            name,
            len(kind).to_bytes(4),
            kind,
            b"\x02" if is_binary(header) else b"\x01",
            len(value).to_bytes(4),
            value,
        )
    return md5_of(b"".join(parts))


def raw_size(given: Attributes | UnsetType) -> int:
    """The size in bytes of attributes that were not checked, as in `size_of`."""
    if given is UNSET:
        return 0
    return sum(
        len(name.encode()) + len(value.DataType.encode()) + len((value.StringValue or "").encode()) + len(value.BinaryValue or b"")
        for name, value in given.items()
    )


def size_of(headers: Iterable[Header]) -> int:
    """The size in bytes of attributes, as they count towards a message's size."""
    return sum(len(header.name) + len(header.type.encode()) + len(header.value) for header in headers)
