"""Headers of jobs in the native API: an object, by name. A plain string is a header of type String."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

import msgspec

from jobqueue.errors import BadRequest
from jobqueue.model import Header

TEXT = "String"
BINARY = "Binary"


class HeaderBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """A header of a type other than String. value: text, or base64 if the type is Binary."""

    type: str
    value: str


HeaderValue = str | HeaderBody


def headers_of(sent: dict[str, HeaderValue]) -> tuple[Header, ...]:
    """Headers as the backend takes them. Raises BadRequest."""
    return tuple(_header(name, given) for name, given in sent.items())


def _header(name: str, given: HeaderValue) -> Header:
    if isinstance(given, str):
        return Header(name, _utf8(name, given))
    if given.type.partition(".")[0] != BINARY:
        return Header(name, _utf8(name, given.value), given.type)
    try:
        return Header(name, b64decode(given.value, validate=True), given.type)
    except (binascii.Error, ValueError):
        raise BadRequest(f"headers.{name}"[:200], "is not base64, as the value of a Binary is sent") from None


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"headers.{name}"[:200], "holds a lone surrogate") from None


def headers_view(headers: tuple[Header, ...]) -> dict[str, HeaderValue]:
    """Headers as they are shown, which is as they are sent."""
    return {header.name: _view(header) for header in headers}


def _view(header: Header) -> HeaderValue:
    if header.type.partition(".")[0] == BINARY:
        return HeaderBody(header.type, b64encode(header.value).decode())
    text = header.value.decode()
    return text if header.type == TEXT else HeaderBody(header.type, text)
