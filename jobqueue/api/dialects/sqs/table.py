"""Every action: its name, its function, its input, and the scope that it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from jobqueue.api.dialects.sqs.actions import messages, moves, queues, receiving, sending, settling
from jobqueue.api.routes import Scope


class Action(NamedTuple):
    """One action.

    handler: a coroutine function of a Call and an input, which returns a result, None if the action has none, or an Answer that it has
    written itself; given: the type of the input; held: it can be held open.
    """

    name: str
    handler: Callable[[Any, Any], Awaitable[Any]]
    given: Any
    scope: Scope
    held: bool = False


_MESSAGES = (
    Action("SendMessage", sending.send_message, messages.SendMessage, Scope.ENQUEUE),
    Action("SendMessageBatch", sending.send_message_batch, messages.SendMessageBatch, Scope.ENQUEUE),
    Action("ReceiveMessage", receiving.receive_message, messages.ReceiveMessage, Scope.DEQUEUE, held=True),
    Action("DeleteMessage", settling.delete_message, messages.DeleteMessage, Scope.DEQUEUE),
    Action("DeleteMessageBatch", settling.delete_message_batch, messages.DeleteMessageBatch, Scope.DEQUEUE),
    Action("ChangeMessageVisibility", settling.change_message_visibility, messages.ChangeMessageVisibility, Scope.DEQUEUE),
    Action("ChangeMessageVisibilityBatch", settling.change_message_visibility_batch, messages.ChangeMessageVisibilityBatch, Scope.DEQUEUE),
)

_QUEUES = (
    Action("CreateQueue", queues.create_queue, queues.CreateQueueRequest, Scope.ADMIN),
    Action("GetQueueUrl", queues.get_queue_url, queues.GetQueueUrlRequest, Scope.READ),
    Action("ListQueues", queues.list_queues, queues.ListQueuesRequest, Scope.READ),
    Action("DeleteQueue", queues.delete_queue, queues.QueueRequest, Scope.ADMIN),
    Action("PurgeQueue", queues.purge_queue, queues.QueueRequest, Scope.ADMIN),
    Action("GetQueueAttributes", queues.get_queue_attributes, queues.GetQueueAttributesRequest, Scope.READ),
    Action("SetQueueAttributes", queues.set_queue_attributes, queues.SetQueueAttributesRequest, Scope.ADMIN),
    Action("TagQueue", queues.tag_queue, queues.TagQueueRequest, Scope.ADMIN),
    Action("UntagQueue", queues.untag_queue, queues.UntagQueueRequest, Scope.ADMIN),
    Action("ListQueueTags", queues.list_queue_tags, queues.QueueRequest, Scope.READ),
    Action("AddPermission", queues.permission, queues.PermissionRequest, Scope.ADMIN),
    Action("RemovePermission", queues.permission, queues.PermissionRequest, Scope.ADMIN),
    Action("ListDeadLetterSourceQueues", queues.list_dead_letter_source_queues, queues.ListDeadLetterSourceQueuesRequest, Scope.READ),
    Action("StartMessageMoveTask", moves.start_message_move_task, moves.StartMessageMoveTaskRequest, Scope.ADMIN),
    Action("ListMessageMoveTasks", moves.list_message_move_tasks, moves.ListMessageMoveTasksRequest, Scope.READ),
    Action("CancelMessageMoveTask", moves.cancel_message_move_task, moves.CancelMessageMoveTaskRequest, Scope.ADMIN),
)

ACTIONS: tuple[Action, ...] = (*_MESSAGES, *_QUEUES)
