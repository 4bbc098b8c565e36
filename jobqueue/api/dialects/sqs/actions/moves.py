"""Message move tasks: redrives, as AWS shows them. What a task is, and when it ends, is in backend/tasks.py."""

from __future__ import annotations

import base64
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.dialects.sqs.actions.queues import all_queues
from jobqueue.api.dialects.sqs.call import Call, arn_of, name_in_arn
from jobqueue.api.dialects.sqs.errors import SqsError, invalid, invalid_value, missing, no_resource
from jobqueue.backend.requests.tasks import CancelTask, GetTask, ListTasks, Redrive
from jobqueue.engine.tasks import TaskState, TaskStats
from jobqueue.errors import BadRequest, TooManyTasks, UnknownQueue, UnknownTask

RATE_MAX = 500
RESULTS_MAX = 10

MoveStatus = Literal["RUNNING", "COMPLETED", "CANCELLED", "FAILED"]

_STATUS: dict[TaskState, MoveStatus] = {"running": "RUNNING", "done": "COMPLETED", "cancelled": "CANCELLED", "failed": "FAILED"}


class StartMessageMoveTaskRequest(msgspec.Struct, kw_only=True, gc=False):
    """A task to start. DestinationArn: the queue to move all messages to; without it, each returns to the queue that it came from."""

    SourceArn: str
    DestinationArn: str | UnsetType = UNSET
    MaxNumberOfMessagesPerSecond: int | UnsetType = UNSET


class StartMessageMoveTaskResult(msgspec.Struct, gc=False):
    """The handle with which the task can be cancelled."""

    TaskHandle: str


class ListMessageMoveTasksRequest(msgspec.Struct, kw_only=True, gc=False):
    """The queue whose tasks to list, and how many."""

    SourceArn: str
    MaxResults: int | UnsetType = UNSET


class ListMessageMoveTasksResultEntry(msgspec.Struct, omit_defaults=True, gc=False):
    """The current state of a task. StartedTimestamp: in milliseconds."""

    Status: MoveStatus
    SourceArn: str
    ApproximateNumberOfMessagesMoved: int
    ApproximateNumberOfMessagesToMove: int
    StartedTimestamp: int
    TaskHandle: str | UnsetType = UNSET
    DestinationArn: str | UnsetType = UNSET
    MaxNumberOfMessagesPerSecond: int | UnsetType = UNSET
    FailureReason: str | UnsetType = UNSET


class ListMessageMoveTasksResult(msgspec.Struct, omit_defaults=True, gc=False):
    """Tasks, the newest first."""

    Results: list[ListMessageMoveTasksResultEntry] = msgspec.field(default_factory=list)


class CancelMessageMoveTaskRequest(msgspec.Struct, kw_only=True, gc=False):
    """A task to cancel."""

    TaskHandle: str


class CancelMessageMoveTaskResult(msgspec.Struct, gc=False):
    """How many messages the task has moved."""

    ApproximateNumberOfMessagesMoved: int


class _Handle(msgspec.Struct, gc=False):
    """The content of a handle: JSON in base64, as in AWS's."""

    taskId: str
    sourceArn: str


def _handle(stats: TaskStats) -> str:
    return base64.b64encode(msgspec.json.encode(_Handle(stats.id, arn_of(stats.queue)))).decode()


def _read_handle(text: str) -> _Handle:
    try:
        found = msgspec.json.decode(base64.b64decode(text, validate=True), type=_Handle)
    except (ValueError, RecursionError):
        raise invalid("Value for parameter TaskHandle is invalid.") from None
    return found


async def _queue(call: Call, arn: str, parameter: str) -> str:
    """The queue of an ARN. Raises SqsError."""
    if not arn:
        raise missing(parameter)
    name = name_in_arn(arn)
    if name is None:
        raise invalid(f"You must use this format to specify the {parameter}: arn:<partition>:<service>:<region>:<account-id>:<resource-id>")
    try:
        await call.site.backend.queue(name)
    except (UnknownQueue, BadRequest):
        raise _no_queue(parameter) from None
    return name


def _no_queue(parameter: str) -> SqsError:
    return no_resource(f"The resource that you specified for the {parameter} parameter doesn't exist.")


async def start_message_move_task(call: Call, given: StartMessageMoveTaskRequest) -> StartMessageMoveTaskResult:
    """Move the dead letters of a queue to another queue, or each back to the queue that it came from."""
    rate = given.MaxNumberOfMessagesPerSecond
    if rate is not UNSET and not 1 <= rate <= RATE_MAX:
        raise invalid_value(rate, "MaxNumberOfMessagesPerSecond", f"Must be between 1 and {RATE_MAX}, if provided.")
    source = await _queue(call, given.SourceArn, "SourceArn")
    to = await _queue(call, given.DestinationArn, "DestinationArn") if given.DestinationArn else None
    async for stats in all_queues(call.site.backend):
        if stats.policy.dead_letter == source:
            break
    else:
        raise invalid("Source queue must be configured as a Dead Letter Queue.")
    try:
        task = await call.site.backend.ask(
            Redrive(queue=source, to=to, rate=None if rate is UNSET else float(rate), alone=True, as_new=True)
        )
    except TooManyTasks as error:
        if error.field != "queue":
            raise
        raise invalid("There is already a task running. Only one active task is allowed for a source queue arn at a given time.") from None
    except UnknownQueue:
        raise _no_queue("SourceArn") from None
    except BadRequest as error:
        raise invalid_value(given.DestinationArn, "DestinationArn", f"It {error.reason}.") from None
    return StartMessageMoveTaskResult(_handle(task))


async def list_message_move_tasks(call: Call, given: ListMessageMoveTasksRequest) -> ListMessageMoveTasksResult:
    """List the tasks of a queue, the newest first; only one, unless MaxResults asks for more."""
    count = 1 if given.MaxResults is UNSET else given.MaxResults
    if not 1 <= count <= RESULTS_MAX:
        raise invalid_value(count, "MaxResults", f"Must be between 1 and {RESULTS_MAX}, if provided.")
    source = await _queue(call, given.SourceArn, "SourceArn")
    tasks = [task for task in await call.site.backend.ask(ListTasks()) if task.queue == source]
    return ListMessageMoveTasksResult([_shown(task) for task in tasks[:count]])


def _shown(task: TaskStats) -> ListMessageMoveTasksResultEntry:
    return ListMessageMoveTasksResultEntry(
        Status=_STATUS[task.state],
        SourceArn=arn_of(task.queue),
        ApproximateNumberOfMessagesMoved=task.done,
        ApproximateNumberOfMessagesToMove=task.total,
        StartedTimestamp=int(task.started_at * 1_000),
        TaskHandle=_handle(task) if task.state == "running" else UNSET,
        DestinationArn=UNSET if task.to is None else arn_of(task.to),
        MaxNumberOfMessagesPerSecond=UNSET if task.rate is None else max(1, round(task.rate)),
        FailureReason=UNSET if task.error is None else task.error,
    )


async def cancel_message_move_task(call: Call, given: CancelMessageMoveTaskRequest) -> CancelMessageMoveTaskResult:
    """Cancel a task; moved messages stay moved. The answer for a task that has ended is the same, since an SDK can repeat the request."""
    if not given.TaskHandle:
        raise missing("TaskHandle")
    handle = _read_handle(given.TaskHandle)
    source = await _queue(call, handle.sourceArn, "SourceArn")
    try:
        task = await call.site.backend.ask(GetTask(id=handle.taskId))
        if task.queue != source:
            raise UnknownTask(handle.taskId)
        task = await call.site.backend.ask(CancelTask(id=handle.taskId))
    except UnknownTask:
        raise no_resource("Task does not exist.") from None
    return CancelMessageMoveTaskResult(task.done)
