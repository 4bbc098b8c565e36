"""ReceiveMessage: a held dequeue of up to ten jobs, which are either delivered or put back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import UNSET

from jobqueue.api.dialects.sqs.actions.messages import Message, ReceiveMessage, ReceiveMessageResult
from jobqueue.api.dialects.sqs.actions.sending import sequence_of
from jobqueue.api.dialects.sqs.attributes import kept_number
from jobqueue.api.dialects.sqs.bodies import (
    DEDUPLICATION,
    RESERVED,
    SENDER,
    TRACE,
    attribute_of,
    attributes_md5,
    body_of,
    fit_body,
    fit_header,
    md5_of,
)
from jobqueue.api.dialects.sqs.call import ACCOUNT, Call, arn_of, is_fifo
from jobqueue.api.dialects.sqs.errors import SqsError, invalid_attribute_name, invalid_value
from jobqueue.api.dialects.sqs.handles import handle_of
from jobqueue.api.native import longpoll
from jobqueue.http.answers import Answer
from jobqueue.model import Header, Job, Want
from jobqueue.policy import QueuePolicy

MESSAGES_MAX = 10
WAIT_SECONDS_MAX = 20
HOLD_SECONDS_MAX = 19.5
"""A receive that waits for 20 seconds is answered a little earlier. Celery allows its receives 20.0 s, from the first byte sent to the last
one read, and with kombu 5.7.0 it never sends another receive after one that took longer.
"""

VISIBILITY_SECONDS_MAX = 43_200

_ATTEMPT = re.compile("[!-~]{1,128}")


def _header(name: str) -> Callable[[Job, bool], str | None]:
    def read(job: Job, fifo: bool) -> str | None:
        return next((header.value.decode("utf-8", "replace") for header in job.headers if header.name == name), None)

    return read


def _first_received(job: Job, fifo: bool) -> str | None:
    past, lease = job.past, job.lease
    started = past[0].started_at if past else lease.started_at if lease is not None else None
    return None if started is None else _milliseconds(started)


def _deduplication(job: Job, fifo: bool) -> str | None:
    if not fifo:
        return None
    if job.origin is not None:
        # As in AWS for a message that is moved to a dead-letter queue.
        return job.id
    # A message that was moved back as a new message has none of its own, nor has one that was enqueued natively.
    return _kept_deduplication(job, fifo) or (job.id if job.unique is None else job.unique.key)


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1_000))


_kept_deduplication, _sender, _trace = _header(DEDUPLICATION), _header(SENDER), _header(TRACE)

SYSTEM: dict[str, Callable[[Job, bool], str | None]] = {
    "SenderId": lambda job, fifo: _sender(job, fifo) or ACCOUNT,
    "SentTimestamp": lambda job, fifo: _milliseconds(job.created_at),
    "ApproximateReceiveCount": lambda job, fifo: str(job.received),
    "ApproximateFirstReceiveTimestamp": _first_received,
    "SequenceNumber": lambda job, fifo: sequence_of(job.number) if fifo else None,
    "MessageDeduplicationId": _deduplication,
    "MessageGroupId": lambda job, fifo: job.key,
    "AWSTraceHeader": _trace,
    "DeadLetterQueueSourceArn": lambda job, fifo: None if job.origin is None else arn_of(job.origin.queue),
}
"""System attributes, and how each is read from a job; None if the job does not have it."""

_OF_QUEUES = frozenset(
    {
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "ContentBasedDeduplication",
        "CreatedTimestamp",
        "DeduplicationScope",
        "DelaySeconds",
        "FifoQueue",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "LastModifiedTimestamp",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "Policy",
        "QueueArn",
        "ReceiveMessageWaitTimeSeconds",
        "RedriveAllowPolicy",
        "RedrivePolicy",
        "SqsManagedSseEnabled",
        "VisibilityTimeout",
    }
)
"""Attributes that AWS's model lets a receive ask for, and that no message has here."""


def _system(asked: Sequence[str]) -> tuple[str, ...]:
    """The requested system attributes. Raises SqsError."""
    found: dict[str, None] = {}
    for name in asked:
        if name in SYSTEM:
            found[name] = None
        elif name in ("All", "ALL"):
            # kombu sends it in capitals.
            return tuple(SYSTEM)
        elif name not in _OF_QUEUES:
            raise invalid_attribute_name(name)
    return tuple(found)


def _chosen(asked: Sequence[str]) -> Callable[[str], bool] | None:
    """A function that selects the requested message attributes by name, None for none."""
    if not asked:
        return None
    if any(name in ("All", ".*") for name in asked):
        return lambda name: True
    exact = frozenset(asked)
    starts = frozenset(name[:-2] for name in asked if name.endswith(".*"))
    # A name has few prefixes, but a request can ask for half a million of them.
    return lambda name: name in exact or (bool(starts) and any(name[:end] in starts for end in range(1, len(name) + 1)))


class Asked:
    """The parameters of one receive, and its answer."""

    __slots__ = ("chosen", "fifo", "system", "xml")

    def __init__(self, given: ReceiveMessage, fifo: bool, xml: bool) -> None:
        self.fifo = fifo
        self.xml = xml
        self.system = _system((*given.AttributeNames, *given.MessageSystemAttributeNames))
        self.chosen = _chosen(given.MessageAttributeNames)

    def message(self, job: Job) -> Message:
        """A job that was handed out, as a message."""
        body, octets = body_of(job.payload)
        if self.xml:
            body, octets = fit_body(body, octets)
        assert job.lease is not None
        message = Message(
            MessageId=job.id, ReceiptHandle=handle_of(job.id, job.lease.token, job.queue), MD5OfBody=md5_of(octets), Body=body
        )
        if self.system:
            read = ((name, SYSTEM[name](job, self.fifo)) for name in self.system)
            message.Attributes = {name: value for name, value in read if value is not None}
        if self.chosen is not None and job.headers:
            chosen = sorted(
                (header for header in job.headers if not header.name.startswith(RESERVED) and self.chosen(header.name)),
                key=_name,
            )
            if chosen:
                if self.xml:
                    chosen = [fit_header(header) for header in chosen]
                message.MD5OfMessageAttributes = attributes_md5(chosen)
                message.MessageAttributes = {header.name: attribute_of(header) for header in chosen}
        return message

    def result(self, jobs: list[Job]) -> ReceiveMessageResult:
        """All of them."""
        return ReceiveMessageResult(Messages=[self.message(job) for job in jobs])


def _name(header: Header) -> str:
    return header.name


async def receive_message(call: Call, given: ReceiveMessage) -> Answer:
    """ReceiveMessage."""
    policy = await call.policy()
    fifo = is_fifo(call.queue, policy)
    asked = Asked(given, fifo, call.protocol == "query")
    want, wait = _wanted(call, given, policy, fifo), _wait(call, given, policy)
    return await longpoll.take_many(call.site, call.request, want, wait, lambda jobs, quiet: call.answer(asked.result(jobs)))


def _wanted(call: Call, given: ReceiveMessage, policy: QueuePolicy, fifo: bool) -> Want:
    limit, seconds, attempt = given.MaxNumberOfMessages, given.VisibilityTimeout, given.ReceiveRequestAttemptId
    if not 1 <= limit <= MESSAGES_MAX:
        raise invalid_value(limit, "MaxNumberOfMessages", f"Must be between 1 and {MESSAGES_MAX}, if provided.")
    if seconds is not UNSET and not 0 <= seconds <= VISIBILITY_SECONDS_MAX:
        raise _out_of_range(seconds, "VisibilityTimeout", VISIBILITY_SECONDS_MAX)
    if attempt is not UNSET:
        if not fifo:
            raise invalid_value(attempt, "ReceiveRequestAttemptId", "The request include parameter that is not valid for this queue type.")
        if _ATTEMPT.fullmatch(attempt) is None:
            reason = "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length."
            raise invalid_value(attempt, "ReceiveRequestAttemptId", reason)
    return Want(
        queues=(call.queue,),
        limit=limit,
        lease_seconds=None if seconds is UNSET else min(seconds, call.site.limits.lease_seconds_max),
        worker=call.who or None,
        attempt_id=call.invocation if attempt is UNSET else attempt,
        who=call.who,
    )


def _wait(call: Call, given: ReceiveMessage, policy: QueuePolicy) -> float:
    wait = given.WaitTimeSeconds
    if wait is UNSET:
        wait = kept_number(policy, "ReceiveMessageWaitTimeSeconds", 0)
    if not 0 <= wait <= WAIT_SECONDS_MAX:
        raise _out_of_range(wait, "WaitTimeSeconds", WAIT_SECONDS_MAX)
    return min(float(wait), HOLD_SECONDS_MAX, call.site.limits.wait_seconds_max)


def _out_of_range(value: int, name: str, most: int) -> SqsError:
    return invalid_value(value, name, f"Must be >= 0 and <= {most}, if provided.")
