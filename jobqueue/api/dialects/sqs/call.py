"""One call of an action, as its function receives it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from msgspec import UNSET, Struct, UnsetType

from jobqueue.api.dialects.sqs.errors import SqsError, missing, no_queue
from jobqueue.api.site import Site
from jobqueue.backend.requests.queues import GetPolicy
from jobqueue.errors import UnknownQueue
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.limits import NAME
from jobqueue.model import QueueStats
from jobqueue.policy import QueuePolicy

Speech = Literal["json", "query"]

ACCOUNT = "000000000000"
REGION = "us-east-1"

_NAME_CHARS_MAX = 1_000
"""Longer names are not looked up; whether a shorter one is valid is checked by the backend."""

_ARN = re.compile(r"arn:aws[a-z-]*:sqs:[^:]*:[^:]*:(.+)")

_numbers = itertools.count(1)
_bits = os.urandom(8).hex()
_PROCESS = f"{_bits[:8]}-{_bits[8:12]}-4{_bits[12:15]}-8{_bits[13:16]}-"
"""An id from here combines a process number and a request number, written as a UUID, which is what clients show."""


def new_id() -> str:
    """A request's id."""
    return f"{_PROCESS}{next(_numbers):012x}"


class Spoken(Struct, gc=False):
    """What is known of a request before its action begins, and what its answer needs after its headers were released.

    protocol: the one to answer in; id: X-Amzn-RequestId; host: its Host; queue: the one in its path, "" without one; signed: it has
    credentials; invocation: amz-sdk-invocation-id, the same in every attempt of an SDK at one call; pairs: the parameters of the Query
    protocol; refusal: why it asks for no action.
    """

    protocol: Speech
    id: str
    host: str
    queue: str = ""
    signed: bool = False
    invocation: str | None = None
    pairs: Sequence[tuple[str, str]] = ()
    refusal: SqsError | None = None


class OfQueue(Protocol):
    """An input that names a queue."""

    @property
    def QueueUrl(self) -> str | UnsetType:
        """The queue's URL, of which only the last segment counts, or its name."""


class Call:
    """One call.

    site: what its token can see of the server; queue: the last segment of its QueueUrl or path, "" without one; who: the name of its token,
    "" if the server has no tokens; protocol: of the request; invocation: the SDK's own id of the call, the same in each repeat, None
    without one; host: the host name that it was sent to.
    """

    __slots__ = ("_spoken", "_written", "host", "invocation", "protocol", "queue", "request", "site", "who")

    def __init__(self, site: Site, request: Request, spoken: Spoken, written: Callable[[Any, Spoken], Answer]) -> None:
        self._spoken = spoken
        self._written = written
        self.site = site
        self.request = request
        self.queue = spoken.queue
        self.who = request.who
        self.protocol = spoken.protocol
        self.invocation = spoken.invocation
        self.host = spoken.host

    @property
    def base(self) -> str:
        """The beginning of QueueUrls: scheme, host and mount."""
        site = self.site
        origin = site.sqs_url or f"{'https' if self.request.connection.secure else 'http'}://{self.host}"
        return origin + site.prefixes["sqs"]

    def answer(self, result: Any) -> Answer:
        """The answer for a result, for an action that writes its answer itself."""
        return self._written(result, self._spoken)

    def url(self, name: str) -> str:
        """The QueueUrl of a queue."""
        return f"{self.base}/{ACCOUNT}/{name}"

    def _named(self) -> str:
        """The queue that the call names, if the name is possible. Raises SqsError."""
        name = self.queue
        if not name:
            raise missing("QueueUrl")
        if len(name) > _NAME_CHARS_MAX:
            raise no_queue()
        return name

    async def stats(self) -> QueueStats:
        """The queue that the call names. Raises SqsError if it names none, or one that does not exist."""
        try:
            return await self.site.backend.queue(self._named())
        except UnknownQueue:
            raise no_queue() from None

    async def policy(self) -> QueuePolicy:
        """The policy of the queue that the call names. Raises as `stats` does."""
        try:
            return await self.site.backend.ask(GetPolicy(name=self._named()))
        except UnknownQueue:
            raise no_queue() from None


def name_of(url: str) -> str:
    """The queue's name in a QueueUrl: its last segment, or all of it."""
    return url[url.rfind("/") + 1 :]


def arn_of(name: str) -> str:
    """The ARN of a queue."""
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def name_in_arn(arn: str) -> str | None:
    """The queue's name in an ARN of any region and account, None if it is not an ARN of a queue."""
    match = _ARN.fullmatch(arn)
    return match[1] if match is not None and NAME.fullmatch(match[1]) is not None else None


def is_fifo(name: str, policy: QueuePolicy) -> bool:
    """Whether a queue is a FIFO queue."""
    return policy.per_key is not None and policy.per_key.order == "fifo" and name.endswith(".fifo")


def given(value: object) -> bool:
    """Whether a field of an input was sent."""
    return value is not UNSET
