"""Headers of jobs: what a producer sends in addition to the payload, and what readers and workers receive."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Self, TypeAlias

import msgspec

from jobqueue.model import Header as Stored


class Header(msgspec.Struct, frozen=True, gc=False):
    """A header with a type. type is String, Number or Binary, and can be followed by a dot and your own label; value is text, or base64 if
    the type is Binary. `Header.binary` makes one from bytes, and `data` returns the value as bytes.
    """

    type: str
    value: str

    @classmethod
    def binary(cls, data: bytes, type: str = "Binary") -> Self:
        """Make a header from bytes."""
        return cls(type, b64encode(data).decode())

    @property
    def data(self) -> bytes:
        """Its value as bytes; text is encoded as UTF-8. Raises ValueError for invalid base64."""
        return b64decode(self.value, validate=True) if self.type.startswith("Binary") else self.value.encode()


HeaderValue: TypeAlias = str | Header
"""A str alone is a header of type String."""


def shown(headers: Iterable[Stored]) -> dict[str, HeaderValue]:
    """A backend's headers, in the form that clients show."""
    return {header.name: _shown(header) for header in headers}


def _shown(header: Stored) -> HeaderValue:
    if header.type.startswith("Binary"):
        return Header.binary(header.value, header.type)
    text = header.value.decode()
    return text if header.type == "String" else Header(header.type, text)
