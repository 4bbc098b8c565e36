"""SendMessage and SendMessageBatch.

An SDK repeats a call whose answer was lost, with the same invocation id. The job's id is derived from that, so the repeat gets the same
answer as the first call, and creates nothing.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import UNSET, Struct, UnsetType

from jobqueue.api.dialects.sqs.actions.entries import check_entries, failed
from jobqueue.api.dialects.sqs.actions.messages import (
    SendMessage,
    SendMessageBatch,
    SendMessageBatchRequestEntry,
    SendMessageBatchResult,
    SendMessageBatchResultEntry,
    SendMessageResult,
)
from jobqueue.api.dialects.sqs.attributes import kept_number
from jobqueue.api.dialects.sqs.bodies import (
    DEDUPLICATION,
    SENDER,
    TRACE,
    Attributes,
    attributes_md5,
    check_text,
    headers_of,
    md5_of,
    payload_of,
    raw_size,
    size_of,
    value_of,
)
from jobqueue.api.dialects.sqs.call import Call, is_fifo
from jobqueue.api.dialects.sqs.errors import (
    MESSAGE_BYTES_MAX,
    SqsError,
    batch_too_long,
    invalid,
    invalid_value,
    missing,
    no_queue,
)
from jobqueue.backend.base import Enqueued, SentSpec
from jobqueue.errors import IdConflict, QueueError, UnknownQueue
from jobqueue.model import Header, JobSpec
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.unique import Unique

DELAY_SECONDS_MAX = 900
WINDOW_SECONDS = 300.0
"""How long a deduplication id is remembered."""

HEADERS_MAX = 12

_ID = re.compile("[!-~]{1,128}")
_NOT_HERE = "The request include parameter that is not valid for this queue type"
_VERSION_5, _VARIANT = 0x50, 0x80


class Prepared(Struct, gc=False):
    """A message to be sent: the job, and what its sender receives."""

    spec: JobSpec
    md5: str
    size: int
    attributes_md5: str | UnsetType = UNSET
    system_md5: str | UnsetType = UNSET


class Target:
    """The queue that messages are sent to. most: bytes of a message, including its attributes."""

    __slots__ = ("by_content", "by_group", "call", "fair", "fifo", "most", "name")

    def __init__(self, call: Call, policy: QueuePolicy) -> None:
        self.call = call
        self.name = call.queue
        self.fifo = is_fifo(self.name, policy)
        self.fair = policy.fair
        self.most = MESSAGE_BYTES_MAX
        self.by_content = self.by_group = False
        kept = policy.attributes
        if kept:
            self.most = kept_number(policy, "MaximumMessageSize", MESSAGE_BYTES_MAX)
            self.by_content = kept.get("ContentBasedDeduplication") == "true"
            self.by_group = kept.get("DeduplicationScope") == "messageGroup"

    def prepared(self, given: SendMessage | SendMessageBatchRequestEntry, entry: str) -> Prepared:
        """One message, checked. Raises SqsError."""
        text = given.MessageBody
        if not text:
            raise missing("MessageBody")
        check_text(text)
        octets = text.encode()
        spec = SentSpec(payload=payload_of(text, octets), queue=self.name, there=True)
        size = len(octets)
        found = Prepared(spec, md5_of(octets), size)
        if given.MessageAttributes:
            spec.headers = headers_of(given.MessageAttributes)
            size = found.size = size + size_of(spec.headers)
            if spec.headers:
                found.attributes_md5 = attributes_md5(spec.headers)
        if size > self.most:
            raise invalid(f"One or more parameters are invalid. Reason: Message must be shorter than {self.most} bytes.")
        if given.MessageSystemAttributes:
            trace = _trace(given.MessageSystemAttributes)
            spec.headers += trace
            found.system_md5 = attributes_md5([Header("AWSTraceHeader", each.value, each.type) for each in trace])
        self._queued(spec, given, octets)
        if self.call.who and len(spec.headers) < HEADERS_MAX:
            # For a message of the largest size, the sender is not stored: it is not part of the message, and must not make it too large.
            sender = (Header(SENDER, self.call.who.encode()),)
            if len(octets) + size_of(spec.headers + sender) <= self.call.site.limits.payload_bytes_max:
                spec.headers += sender
        if self.call.invocation is not None:
            # Includes what would make it another message, so that no message of a batch gets another call's id and is sent again behind
            # those after it.
            content = f"{entry}\0{found.md5}\0{given.MessageGroupId}\0{given.MessageDeduplicationId}"
            spec.id = _id_of(self.call.who, self.call.invocation, content)
        return found

    def _queued(self, spec: JobSpec, given: SendMessage | SendMessageBatchRequestEntry, octets: bytes) -> None:
        """Apply the queue's kind to a message: its delay, its group, and its deduplication."""
        delay, group, once = given.DelaySeconds, given.MessageGroupId, given.MessageDeduplicationId
        if delay is not UNSET:
            if not 0 <= delay <= DELAY_SECONDS_MAX:
                raise invalid_value(delay, "DelaySeconds", f"DelaySeconds must be >= 0 and <= {DELAY_SECONDS_MAX}.")
            if self.fifo and delay:
                raise invalid_value(delay, "DelaySeconds", f"{_NOT_HERE}.")
            if not self.fifo:
                spec.delay = delay
        if group is not UNSET:
            spec.key = _checked("MessageGroupId", group)
        if not self.fifo:
            if once is not UNSET:
                raise invalid_value(once, "MessageDeduplicationId", f"{_NOT_HERE}.")
            return
        if spec.key is None:
            raise _of_all(missing("MessageGroupId"))
        if once is not UNSET:
            key = _checked("MessageDeduplicationId", once)
        elif self.by_content:
            key = hashlib.sha256(octets).hexdigest()
        else:
            raise _of_all(
                invalid("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
            )
        if self.by_group:
            spec.headers += (Header(DEDUPLICATION, key.encode()),)
            key = hashlib.sha256(f"{spec.key}\0{key}".encode()).hexdigest()
        spec.unique = Unique(key=key, until="enqueued", for_=WINDOW_SECONDS, on_conflict="keep")

    async def share(self) -> None:
        """Make the queue's keys take turns, which is what message groups mean in a queue that is not FIFO."""
        if not self.fair and not self.fifo:
            await self.call.site.backend.change_policy(self.name, PolicyChange(fair=True))


def _id_of(who: str, invocation: str, entry: str) -> str:
    """The id of the job for a call, or for one entry of a call, derived from the call's own id: a UUID of version 5 (RFC 9562)."""
    digest = bytearray(hashlib.sha1(f"{who}\0{invocation}\0{entry}".encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | _VERSION_5
    digest[8] = digest[8] & 0x3F | _VARIANT
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _of_all(error: SqsError) -> SqsError:
    """An error that makes a whole batch fail, as in AWS."""
    error.whole = True
    return error


def _checked(name: str, value: str) -> str:
    """The id of a group, or a deduplication id, checked."""
    if _ID.fullmatch(value) is None:
        raise invalid_value(value, name, f"{name} can only include alphanumeric and punctuation characters. 1 to 128 in length.")
    return value


def _trace(given: Attributes) -> tuple[Header, ...]:
    """The only system attribute that can be sent, as a header. Raises SqsError."""
    for name in given:
        if name != "AWSTraceHeader":
            raise invalid(f"Message system attribute name '{name[:256]}' is invalid.")
    return tuple(value_of(TRACE, "Message (system) attribute 'AWSTraceHeader'", value) for value in given.values())


async def send_message(call: Call, given: SendMessage) -> SendMessageResult:
    """SendMessage."""
    target = Target(call, await call.policy())
    ready = target.prepared(given, "")
    spec = ready.spec
    if spec.key is not None:
        await target.share()
    enqueue = call.site.backend.enqueue
    try:
        reply = await enqueue(spec)
    except IdConflict:
        # The id belongs to a different call, for example of a client that gives all its calls the same id.
        spec.id = None
        reply = await enqueue(spec)
    result = SendMessageResult(MD5OfMessageBody=ready.md5, MessageId=reply.job.id)
    if spec.headers:
        result.MD5OfMessageAttributes = ready.attributes_md5
        result.MD5OfMessageSystemAttributes = ready.system_md5
    if target.fifo:
        result.SequenceNumber = sequence_of(reply.job.number)
    return result


def sequence_of(number: int) -> str:
    """A job's number as a sequence number."""
    return f"{number:020d}"


async def send_message_batch(call: Call, given: SendMessageBatch) -> SendMessageBatchResult:
    """SendMessageBatch."""
    target = Target(call, await call.policy())
    entries = given.Entries
    check_entries(entries)
    ready: list[Prepared | SqsError] = []
    size = sum(len(entry.MessageBody.encode()) + raw_size(entry.MessageAttributes) for entry in entries)
    if size > MESSAGE_BYTES_MAX:
        raise batch_too_long(size)
    for number, entry in enumerate(entries, 1):
        if not entry.MessageBody:
            raise missing(f"SendMessageBatchRequestEntry.{number}.MessageBody")
        try:
            ready.append(target.prepared(entry, entry.Id))
        except SqsError as error:
            if error.whole:
                # For a batch AWS answers that it is invalid, where for a single message it answers that something is missing.
                raise invalid(error.message) from None
            ready.append(error.bare())
    if any(isinstance(one, Prepared) and one.spec.key is not None for one in ready):
        await target.share()
    replies = await _enqueued(call, ready)
    if any(isinstance(reply, UnknownQueue) for reply in replies):
        # The queue was deleted since the check, with the messages that were already enqueued.
        raise no_queue()
    result = SendMessageBatchResult(Successful=[], Failed=[])
    for entry, one, reply in zip(entries, ready, replies, strict=True):
        if isinstance(reply, QueueError) or isinstance(one, SqsError):
            assert isinstance(reply, QueueError)
            result.Failed.append(failed(entry, reply))
        else:
            result.Successful.append(_sent(entry.Id, target, one, reply))
    return result


def _sent(entry: str, target: Target, one: Prepared, reply: Enqueued) -> SendMessageBatchResultEntry:
    return SendMessageBatchResultEntry(
        Id=entry,
        MessageId=reply.job.id,
        MD5OfMessageBody=one.md5,
        MD5OfMessageAttributes=one.attributes_md5,
        MD5OfMessageSystemAttributes=one.system_md5,
        SequenceNumber=sequence_of(reply.job.number) if target.fifo else UNSET,
    )


async def _enqueued(call: Call, ready: list[Prepared | SqsError]) -> list[Enqueued | QueueError]:
    """The result for each message."""
    backend = call.site.backend
    replies = await backend.enqueue_batch([one.spec if isinstance(one, Prepared) else one for one in ready])
    taken = [at for at, reply in enumerate(replies) if isinstance(reply, IdConflict)]
    if taken:
        again: list[JobSpec | QueueError] = []
        for at in taken:
            one = ready[at]
            assert isinstance(one, Prepared)
            one.spec.id = None
            again.append(one.spec)
        for at, reply in zip(taken, await backend.enqueue_batch(again), strict=True):
            replies[at] = reply
    return replies
