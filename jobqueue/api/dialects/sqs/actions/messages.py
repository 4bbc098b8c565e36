"""Inputs and results of the actions on messages, named as in AWS's model."""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

from jobqueue.api.dialects.sqs.bodies import MessageAttributeValue

Attributes = dict[str, MessageAttributeValue]


class BatchResultErrorEntry(Struct, gc=False):
    """An entry of a batch that failed."""

    Id: str
    SenderFault: bool
    Code: str
    Message: str


class SendMessage(Struct, kw_only=True, gc=False):
    """A message to send."""

    MessageBody: str
    QueueUrl: str = ""
    DelaySeconds: int | UnsetType = UNSET
    MessageAttributes: Attributes | UnsetType = UNSET
    MessageSystemAttributes: Attributes | UnsetType = UNSET
    MessageDeduplicationId: str | UnsetType = UNSET
    MessageGroupId: str | UnsetType = UNSET


class SendMessageResult(Struct, omit_defaults=True, kw_only=True, gc=False):
    """A message that was sent."""

    MD5OfMessageBody: str
    MessageId: str
    MD5OfMessageAttributes: str | UnsetType = UNSET
    MD5OfMessageSystemAttributes: str | UnsetType = UNSET
    SequenceNumber: str | UnsetType = UNSET


class SendMessageBatchRequestEntry(Struct, kw_only=True, gc=False):
    """A message of a batch."""

    Id: str
    MessageBody: str
    DelaySeconds: int | UnsetType = UNSET
    MessageAttributes: Attributes | UnsetType = UNSET
    MessageSystemAttributes: Attributes | UnsetType = UNSET
    MessageDeduplicationId: str | UnsetType = UNSET
    MessageGroupId: str | UnsetType = UNSET


class SendMessageBatch(Struct, kw_only=True, gc=False):
    """Messages to send."""

    Entries: list[SendMessageBatchRequestEntry]
    QueueUrl: str = ""


class SendMessageBatchResultEntry(Struct, omit_defaults=True, kw_only=True, gc=False):
    """A message of a batch that was sent."""

    Id: str
    MessageId: str
    MD5OfMessageBody: str
    MD5OfMessageAttributes: str | UnsetType = UNSET
    MD5OfMessageSystemAttributes: str | UnsetType = UNSET
    SequenceNumber: str | UnsetType = UNSET


class SendMessageBatchResult(Struct, omit_defaults=True, kw_only=True, gc=False):
    """The result for each message of a batch."""

    Successful: list[SendMessageBatchResultEntry] = []
    Failed: list[BatchResultErrorEntry] = []


class ReceiveMessage(Struct, kw_only=True, gc=False):
    """Which messages to receive, and what to return of each."""

    QueueUrl: str = ""
    AttributeNames: list[str] = []
    MessageSystemAttributeNames: list[str] = []
    MessageAttributeNames: list[str] = []
    MaxNumberOfMessages: int = 1
    VisibilityTimeout: int | UnsetType = UNSET
    WaitTimeSeconds: int | UnsetType = UNSET
    ReceiveRequestAttemptId: str | UnsetType = UNSET


class Message(Struct, kw_only=True, gc=False):
    """A received message. Body: a JSON string."""

    MessageId: str
    ReceiptHandle: str
    MD5OfBody: str
    Body: Raw
    Attributes: dict[str, str] | UnsetType = UNSET
    MD5OfMessageAttributes: str | UnsetType = UNSET
    MessageAttributes: dict[str, MessageAttributeValue] | UnsetType = UNSET


class ReceiveMessageResult(Struct, omit_defaults=True, kw_only=True, gc=False):
    """Messages that were received."""

    Messages: list[Message] = []


class DeleteMessage(Struct, kw_only=True, gc=False):
    """A message to delete."""

    ReceiptHandle: str
    QueueUrl: str = ""


class DeleteMessageBatchRequestEntry(Struct, kw_only=True, gc=False):
    """A message of a batch."""

    Id: str
    ReceiptHandle: str


class DeleteMessageBatch(Struct, kw_only=True, gc=False):
    """Messages to delete."""

    Entries: list[DeleteMessageBatchRequestEntry]
    QueueUrl: str = ""


class DeleteMessageBatchResultEntry(Struct, gc=False):
    """A message of a batch that was deleted."""

    Id: str


class DeleteMessageBatchResult(Struct, omit_defaults=True, kw_only=True, gc=False):
    """The result for each message of a batch."""

    Successful: list[DeleteMessageBatchResultEntry] = []
    Failed: list[BatchResultErrorEntry] = []


class ChangeMessageVisibility(Struct, kw_only=True, gc=False):
    """A message, and the seconds from now after which it is visible again."""

    ReceiptHandle: str
    VisibilityTimeout: int
    QueueUrl: str = ""


class ChangeMessageVisibilityBatchRequestEntry(Struct, kw_only=True, gc=False):
    """A message of a batch."""

    Id: str
    ReceiptHandle: str
    VisibilityTimeout: int | UnsetType = UNSET


class ChangeMessageVisibilityBatch(Struct, kw_only=True, gc=False):
    """Messages, and their new visibility timeouts."""

    Entries: list[ChangeMessageVisibilityBatchRequestEntry]
    QueueUrl: str = ""


class ChangeMessageVisibilityBatchResultEntry(Struct, gc=False):
    """A message of a batch whose visibility timeout was changed."""

    Id: str


class ChangeMessageVisibilityBatchResult(Struct, omit_defaults=True, kw_only=True, gc=False):
    """The result for each message of a batch."""

    Successful: list[ChangeMessageVisibilityBatchResultEntry] = []
    Failed: list[BatchResultErrorEntry] = []
