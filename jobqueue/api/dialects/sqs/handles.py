"""Receipt handles: a job's id, the token of the lease under which it was handed out, and its queue at that time.

The queue is included as a checksum of its name. It protects against mistakes, not against attackers: what the holder of a handle can do is
determined by the lease's token. A message that has become a dead letter meanwhile can still be reached through the queue that it was
received from.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from jobqueue.api.dialects.sqs.errors import invalid_handle

_VERSION = b"\x01"
_TOKEN_BYTES = 16
_SUM_BYTES = 4
_ID_AT = 1 + _TOKEN_BYTES + _SUM_BYTES
_CHARS_MAX = 1_024
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _sum(queue: str) -> bytes:
    return zlib.crc32(queue.encode()).to_bytes(_SUM_BYTES)


def handle_of(job_id: str, token: str, queue: str) -> str:
    """The handle of a job that was handed out from a queue. token: as `ids.py` makes them."""
    raw = binascii.b2a_base64(_VERSION + bytes.fromhex(token) + _sum(queue) + job_id.encode(), newline=False)
    return raw.translate(_TO_URL).rstrip(b"=").decode()


def parts_of(handle: str, queue: str) -> tuple[str, str]:
    """The id and the token in a handle. Raises SqsError if it is invalid, or from another queue."""
    if len(handle) > _CHARS_MAX:
        raise invalid_handle(handle)
    try:
        raw = base64.b64decode((handle + "=" * (-len(handle) % 4)).encode("ascii").translate(_FROM_URL), validate=True)
        job_id = raw[_ID_AT:].decode()
    except ValueError:
        raise invalid_handle(handle) from None
    if raw[:1] != _VERSION or not job_id or not job_id.isprintable() or raw[_ID_AT - _SUM_BYTES : _ID_AT] != _sum(queue):
        raise invalid_handle(handle)
    return job_id, raw[1 : 1 + _TOKEN_BYTES].hex()
