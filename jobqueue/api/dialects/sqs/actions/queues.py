"""Actions on whole queues: creating, finding, listing, purging and deleting them, their attributes and their tags.

An action that reads a queue and then changes it sends only its own changes (`AmendQueue`), so it undoes nothing that others set in the
meantime.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.dialects.sqs import attributes
from jobqueue.api.dialects.sqs.call import Call
from jobqueue.api.dialects.sqs.errors import SqsError, invalid, invalid_value, missing, no_queue, queue_exists, unsupported
from jobqueue.backend.base import Backend
from jobqueue.backend.requests.amend import AmendQueue
from jobqueue.backend.requests.queues import DeleteQueue, MakeQueue, PurgeAll, QueueNames
from jobqueue.errors import BadRequest, UnknownQueue
from jobqueue.model import QueueStats

PAGE_MAX = 1_000
"""The most queues in one answer."""

TAGS_MAX = 50
TAG_KEY_CHARS_MAX = 128
TAG_VALUE_CHARS_MAX = 256

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIFO_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")


class CreateQueueRequest(msgspec.Struct, kw_only=True, gc=False):
    """A queue to create."""

    QueueName: str
    Attributes: dict[str, str] | UnsetType = UNSET
    tags: dict[str, str] | UnsetType = UNSET


class QueueUrlResult(msgspec.Struct, gc=False):
    """A queue's URL."""

    QueueUrl: str


class GetQueueUrlRequest(msgspec.Struct, kw_only=True, gc=False):
    """The name of a queue to find. The owner's account is ignored."""

    QueueName: str


class ListQueuesRequest(msgspec.Struct, kw_only=True, gc=False):
    """Which queues to list, and how many. NextToken: the name of the last queue on the previous page."""

    QueueNamePrefix: str | UnsetType = UNSET
    MaxResults: int | UnsetType = UNSET
    NextToken: str | UnsetType = UNSET


class ListQueuesResult(msgspec.Struct, omit_defaults=True, gc=False):
    """The URLs of queues, in the order of their names."""

    QueueUrls: list[str] = msgspec.field(default_factory=list)
    NextToken: str | UnsetType = UNSET


class ListDeadLetterSourceQueuesRequest(msgspec.Struct, kw_only=True, gc=False):
    """A dead-letter queue whose source queues to list."""

    QueueUrl: str | UnsetType = UNSET
    MaxResults: int | UnsetType = UNSET
    NextToken: str | UnsetType = UNSET


class ListDeadLetterSourceQueuesResult(msgspec.Struct, gc=False):
    """The source queues. As in AWS, the field `queueUrls` is never omitted and begins with a lower-case q."""

    queueUrls: list[str]
    NextToken: str | UnsetType = UNSET


class QueueRequest(msgspec.Struct, kw_only=True, gc=False):
    """A request whose only parameter is a queue."""

    QueueUrl: str | UnsetType = UNSET


class GetQueueAttributesRequest(msgspec.Struct, kw_only=True, gc=False):
    """Which attributes of a queue to show."""

    QueueUrl: str | UnsetType = UNSET
    AttributeNames: list[str] | UnsetType = UNSET


class GetQueueAttributesResult(msgspec.Struct, omit_defaults=True, gc=False):
    """The requested attributes of a queue."""

    Attributes: dict[str, str] = msgspec.field(default_factory=dict)


class SetQueueAttributesRequest(msgspec.Struct, kw_only=True, gc=False):
    """Attributes to set."""

    QueueUrl: str | UnsetType = UNSET
    Attributes: dict[str, str]


class TagQueueRequest(msgspec.Struct, kw_only=True, gc=False):
    """Tags to set."""

    QueueUrl: str | UnsetType = UNSET
    Tags: dict[str, str]


class UntagQueueRequest(msgspec.Struct, kw_only=True, gc=False):
    """Tags to remove."""

    QueueUrl: str | UnsetType = UNSET
    TagKeys: list[str]


class ListQueueTagsResult(msgspec.Struct, omit_defaults=True, gc=False):
    """A queue's tags."""

    Tags: dict[str, str] = msgspec.field(default_factory=dict)


class PermissionRequest(msgspec.Struct, kw_only=True, gc=False):
    """A change of permissions. Only the queue is read."""

    QueueUrl: str | UnsetType = UNSET


# Creating and finding queues.


async def create_queue(call: Call, given: CreateQueueRequest) -> QueueUrlResult:
    """Create a queue. If it exists and has the given attributes, the answer is the same as if it were created now."""
    name, asked = given.QueueName, given.Attributes or {}
    tags = given.tags or {}
    fifo = asked.get("FifoQueue", "").lower() == "true"
    _check_name(name, fifo)
    check_tags(name, {}, tags)
    stats = await _found(call, name)
    if stats is None:
        if name.endswith(".fifo") and not fifo:
            raise invalid_value(name, "QueueName", "Only the name of a FIFO queue ends with .fifo; set FifoQueue to true to make one.")
        values = attributes.read(asked, fifo, making=True)
        attributes.check_together(values, {})
        await _check_target(call, name, values, fifo)
        try:
            made = await call.site.backend.ask(MakeQueue(name=name, policy=attributes.policy_of(values, fifo, tags)))
        except BadRequest as error:
            raise _as_attribute(error, asked) from None
        if made.created:
            return QueueUrlResult(call.url(name))
        stats = made.stats
    values = attributes.read(asked, attributes.is_fifo(stats), making=True)
    other = attributes.differs(values, stats)
    if other is not None:
        raise queue_exists(f"A queue already exists with the same name and a different value for attribute {other}")
    # The request that created it may still be waiting for it to be stored, and until then it can be lost.
    await call.site.backend.ask(MakeQueue(name=name, policy=attributes.policy_of(values, attributes.is_fifo(stats), tags)))
    return QueueUrlResult(call.url(name))


def _check_name(name: str, fifo: bool) -> None:
    if not name:
        raise missing("QueueName")
    if fifo and _FIFO_NAME.fullmatch(name) is None:
        raise invalid_value(
            name,
            "QueueName",
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be "
            "1 to 80 in length.",
        )
    if not fifo and _NAME.fullmatch(name) is None and _FIFO_NAME.fullmatch(name) is None:
        raise invalid_value(name, "QueueName", "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")


async def _found(call: Call, name: str) -> QueueStats | None:
    try:
        return await call.site.backend.queue(name)
    except UnknownQueue:
        return None


async def _check_target(call: Call, source: str, values: Mapping[str, str], fifo: bool) -> None:
    """Check the queue that a RedrivePolicy among the values names. Raises SqsError."""
    text = values.get("RedrivePolicy", "")
    asked = attributes.redrive(text)
    if asked is None:
        return
    target = await _found(call, asked.to)
    if target is None:
        raise invalid_value(text, "RedrivePolicy", "Dead letter target does not exist.")
    if attributes.is_fifo(target) is not fifo:
        raise invalid_value(text, "RedrivePolicy", "Dead-letter queue must be same type of queue as the source.")
    if not attributes.allows(target, source):
        raise invalid_value(text, "RedrivePolicy", "The RedriveAllowPolicy of the dead-letter queue does not allow this queue to use it.")


def _as_attribute(error: BadRequest, asked: Mapping[str, str]) -> SqsError:
    """The engine's objection to a policy, as an error about the attribute that caused it."""
    if error.field == "dead_letter":
        return invalid_value(asked.get("RedrivePolicy", ""), "RedrivePolicy", f"The dead-letter queue {error.reason}.")
    if error.field is not None and error.field.startswith("tags"):
        return invalid(f"Invalid tags: {error.reason}.")
    return invalid(f"One or more parameters are invalid. Reason: {error.detail}.")


async def get_queue_url(call: Call, given: GetQueueUrlRequest) -> QueueUrlResult:
    """Find a queue by its name."""
    if not given.QueueName:
        raise missing("QueueName")
    try:
        if await _found(call, given.QueueName) is None:
            raise no_queue()
    except BadRequest:
        raise no_queue() from None
    return QueueUrlResult(call.url(given.QueueName))


# Listing.


def page_size(given: int | UnsetType) -> int:
    """How many queues to list. Raises SqsError."""
    if given is UNSET:
        return PAGE_MAX
    if not 1 <= given <= PAGE_MAX:
        raise invalid_value(given, "MaxResults", f"Must be between 1 and {PAGE_MAX}, if provided.")
    return given


async def list_queues(call: Call, given: ListQueuesRequest) -> ListQueuesResult:
    """List queues by name; with MaxResults, a page of them."""
    limit = page_size(given.MaxResults)
    asked = QueueNames(prefix=given.QueueNamePrefix or "", after=given.NextToken or "", limit=limit)
    names, after = await call.site.backend.ask(asked)
    token = UNSET if after is None or given.MaxResults is UNSET else after
    return ListQueuesResult([call.url(name) for name in names], token)


async def all_queues(backend: Backend, after: str = "") -> AsyncIterator[QueueStats]:
    """Every queue after a name, by name, read in slices."""
    cursor: str | None = after
    while cursor is not None:
        page, cursor = await backend.queue_page(cursor, PAGE_MAX)
        for stats in page:
            yield stats


async def list_dead_letter_source_queues(call: Call, given: ListDeadLetterSourceQueuesRequest) -> ListDeadLetterSourceQueuesResult:
    """List the queues whose messages move to a queue after too many receives."""
    limit = page_size(given.MaxResults)
    name = (await call.stats()).name
    found: list[str] = []
    async for stats in all_queues(call.site.backend, given.NextToken or ""):
        if stats.policy.dead_letter != name:
            continue
        if len(found) == limit:
            return ListDeadLetterSourceQueuesResult([call.url(source) for source in found], found[-1])
        found.append(stats.name)
    return ListDeadLetterSourceQueuesResult([call.url(source) for source in found])


# Purging and deleting.


async def delete_queue(call: Call, given: QueueRequest) -> None:
    """Delete a queue with all its messages."""
    await call.stats()
    try:
        await call.site.backend.ask(DeleteQueue(name=call.queue))
    except UnknownQueue:
        raise no_queue() from None


async def purge_queue(call: Call, given: QueueRequest) -> None:
    """Delete all messages of a queue."""
    await call.stats()
    try:
        await call.site.backend.ask(PurgeAll(name=call.queue))
    except UnknownQueue:
        raise no_queue() from None


# Attributes.


async def get_queue_attributes(call: Call, given: GetQueueAttributesRequest) -> GetQueueAttributesResult:
    """The requested attributes of a queue, or All."""
    return GetQueueAttributesResult(attributes.named(await call.stats(), given.AttributeNames or ()))


async def set_queue_attributes(call: Call, given: SetQueueAttributesRequest) -> None:
    """Set attributes of a queue; others stay as they are."""
    stats = await call.stats()
    fifo = attributes.is_fifo(stats)
    values = attributes.read(given.Attributes, fifo)
    attributes.check_together(values, attributes.shown(stats))
    await _check_target(call, stats.name, values, fifo)
    change, kept = attributes.changes(values)
    await _amend(call, AmendQueue(name=stats.name, change=change, attributes=kept), given.Attributes)


async def _amend(call: Call, asked: AmendQueue, given: Mapping[str, str]) -> None:
    try:
        await call.site.backend.ask(asked)
    except UnknownQueue:
        raise no_queue() from None
    except BadRequest as error:
        raise _as_attribute(error, given) from None


# Tags.


def check_tags(name: str, old: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Raise SqsError if a queue cannot have these tags in addition to those that it has."""
    if len({*old, *tags}) > TAGS_MAX:
        raise invalid(f"Too many tags added for queue {name}.")
    _check_tag_keys(tags)
    if any(len(value) > TAG_VALUE_CHARS_MAX for value in tags.values()):
        raise invalid(f"Tag values must be between 0 and {TAG_VALUE_CHARS_MAX} characters in length.")


def _check_tag_keys(keys: Mapping[str, str] | list[str]) -> None:
    if not all(1 <= len(key) <= TAG_KEY_CHARS_MAX for key in keys):
        raise invalid(f"Tag keys must be between 1 and {TAG_KEY_CHARS_MAX} characters in length.")


async def tag_queue(call: Call, given: TagQueueRequest) -> None:
    """Set tags of a queue."""
    stats = await call.stats()
    if not given.Tags:
        raise missing("Tags")
    check_tags(stats.name, stats.policy.tags, given.Tags)
    await _amend(call, AmendQueue(name=stats.name, tags={**given.Tags}), {})


async def untag_queue(call: Call, given: UntagQueueRequest) -> None:
    """Remove tags of a queue; tags that it does not have are ignored."""
    stats = await call.stats()
    if not given.TagKeys:
        raise missing("TagKeys")
    _check_tag_keys(given.TagKeys)
    await _amend(call, AmendQueue(name=stats.name, tags=dict.fromkeys(given.TagKeys)), {})


async def list_queue_tags(call: Call, given: QueueRequest) -> ListQueueTagsResult:
    """List a queue's tags."""
    return ListQueueTagsResult((await call.stats()).policy.tags)


async def permission(call: Call, given: PermissionRequest) -> None:
    """Refuse AddPermission and RemovePermission: permissions belong to tokens, not to queues."""
    raise unsupported("This server has no permissions of queues; what a token may do is said where the tokens are.")
