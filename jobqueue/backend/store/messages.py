"""What servers say to each other: MessagePack arrays `[what, n, …]`, n being the number that the asking server gave its request.

Requests are named for the methods of `Backend`. They are written as plain tuples, which costs half of making a struct first, and read as
typed structs, so that nothing of another shape gets further than this file. What most requests carry (specs, verdicts, leases) goes by the
names of its fields: msgspec writes and reads it in C as it is, and a field that only one of two servers knows is left out or has its
default. A job goes by position: its lease and its conclusion have one place in it, and PLAIN is not written.

A new field goes to the end, with a default. Anything else is a new VERSION, and servers of two versions do not talk.
"""

from __future__ import annotations

import msgspec

from jobqueue.backend.base import BackendStats, Conclude, Enqueued, Extend, Listen, Notice
from jobqueue.backend.store.shapes import ErrorRow, Item, JobRow, job_of
from jobqueue.engine.events import Kind
from jobqueue.model import JobFilter, JobSpec, KeyStats, Outcome, PolicyChange, QueuePolicy, QueueStats, Reason, Status, Verdict, Want

VERSION = 1

# What a message is: its first element. 1 to 9 are of the link itself.
HELLO, PROOF, PING, PONG, CANCEL, DELIVERED, FAILED = 1, 2, 3, 4, 5, 6, 7
ENQUEUE, ENQUEUE_BATCH, DEQUEUE, CONCLUDE, CONCLUDE_BATCH, EXTEND, EXTEND_BATCH, RELEASE, END, RETRY = range(10, 20)
JOB, NUMBERED, JOBS, QUEUE_PAGE, QUEUE, PUT_POLICY, DELETE_QUEUE, SET_PAUSED, PURGE, REDRIVE = range(20, 30)
LISTEN, NOTICES, STATS, CHECK, DISMISS = 30, 31, 32, 33, 34
FOLLOW, MARK, FOLLOWED, GIVE_BACK = range(35, 39)
CHANGE_POLICY, KEYS, SET_KEY_PAUSED, WHY = range(70, 74)
DONE, GOT_ENQUEUED, GOT_JOB, GOT_JOBS, GOT_PART, GOT_COUNT, GOT_QUEUE, GOT_QUEUES, GOT_STATS, GOT_LISTENER, GOT_NOTICES = range(40, 51)
GOT_FOLLOWING, GOT_GROUP, GOT_COMMITTED, GOT_KEYS, GOT_KEY, GOT_REASONS = 51, 52, 53, 60, 61, 62

CHANGES = frozenset({ENQUEUE, ENQUEUE_BATCH, CONCLUDE, CONCLUDE_BATCH, EXTEND, EXTEND_BATCH, RELEASE, END, RETRY}) | {
    GIVE_BACK,
    PUT_POLICY,
    DELETE_QUEUE,
    SET_PAUSED,
    PURGE,
    REDRIVE,
    CHANGE_POLICY,
    SET_KEY_PAUSED,
}
"""Requests that may have been carried out when their answer is lost. A dequeue is none: what it took is put back."""


class Message(msgspec.Struct, array_like=True, gc=False, tag_field="what"):
    """n: the request it is or belongs to; 0 for those of the link itself."""

    n: int


# The link.


class Hello(Message, tag=HELLO):
    """The first of each side. version: of this protocol; nonce: random, for the other side's proof; knows: see known.py."""

    version: int
    name: str
    nonce: bytes
    knows: int = 0


class Proof(Message, tag=PROOF):
    """That this side knows the secret."""

    mac: bytes


class Ping(Message, tag=PING):
    """Asks for a Pong."""


class Pong(Message, tag=PONG):
    """Says that this side is there."""


# The asking side.


class CancelOp(Message, tag=CANCEL):
    """Nobody waits for the answer any more: stop. Of a dequeue that was answered: put the jobs back. Of a listener: it has left."""


class Delivered(Message, tag=DELIVERED):
    """The jobs of a dequeue are the worker's."""


class EnqueueOp(Message, tag=ENQUEUE):
    """See Backend.enqueue; so with all that follow."""

    spec: JobSpec


class EnqueueBatchOp(Message, tag=ENQUEUE_BATCH):
    """Errors among the items stay where they are."""

    items: list[JobSpec]


class DequeueOp(Message, tag=DEQUEUE):
    """Is over with an answer without jobs, else with Delivered or CancelOp."""

    want: Want
    wait: float


class ConcludeOp(Message, tag=CONCLUDE):
    """See Backend."""

    id: str
    token: str
    verdict: Verdict


class ConcludeBatchOp(Message, tag=CONCLUDE_BATCH):
    """See EnqueueBatchOp."""

    items: list[Conclude]


class ExtendOp(Message, tag=EXTEND):
    """See Backend."""

    item: Extend


class ExtendBatchOp(Message, tag=EXTEND_BATCH):
    """See EnqueueBatchOp."""

    items: list[Extend]


class ReleaseOp(Message, tag=RELEASE):
    """See Backend."""

    id: str
    token: str
    delay: float


class GiveBackOp(Message, tag=GIVE_BACK):
    """See Backend; answered 1 or 0."""

    id: str
    token: str


class EndOp(Message, tag=END):
    """Backend.cancel."""

    id: str


class RetryOp(Message, tag=RETRY):
    """See Backend."""

    id: str


class JobOp(Message, tag=JOB):
    """See Backend."""

    id: str
    wait: float


class NumberedOp(Message, tag=NUMBERED):
    """See Backend."""

    number: int


class JobsOp(Message, tag=JOBS):
    """A JobFilter without `sees`, which the asking side applies."""

    status: Status | None
    outcome: Outcome | None
    queue: str | None
    type: str | None
    limit: int
    before: int | None
    after: int | None
    payloads: bool
    key: str | None = None

    def wanted(self) -> JobFilter:
        """The filter."""
        return JobFilter(
            status=self.status,
            outcome=self.outcome,
            queue=self.queue,
            type=self.type,
            limit=self.limit,
            before=self.before,
            after=self.after,
            payloads=self.payloads,
            key=self.key,
        )


class QueuePageOp(Message, tag=QUEUE_PAGE):
    """See Backend."""

    after: str
    limit: int


class QueueOp(Message, tag=QUEUE):
    """See Backend."""

    name: str


class PutPolicyOp(Message, tag=PUT_POLICY):
    """See Backend."""

    name: str
    policy: QueuePolicy


class DeleteQueueOp(Message, tag=DELETE_QUEUE):
    """See Backend."""

    name: str


class SetPausedOp(Message, tag=SET_PAUSED):
    """See Backend."""

    name: str
    paused: bool


class PurgeOp(Message, tag=PURGE):
    """See Backend."""

    name: str


class RedriveOp(Message, tag=REDRIVE):
    """See Backend."""

    name: str


class ListenOp(Message, tag=LISTEN):
    """A Listen without `sees`, which the asking side applies. Lasts until CancelOp."""

    queues: frozenset[str]
    types: frozenset[str]
    kinds: frozenset[Kind]
    after: str | None

    def wanted(self) -> Listen:
        """Which events."""
        return Listen(queues=self.queues, types=self.types, kinds=self.kinds)


class NoticesOp(Message, tag=NOTICES):
    """Asks a listener for its next events: nothing is sent that was not asked for. listener: the n of its ListenOp."""

    listener: int
    limit: int
    wait: float


class ChangePolicyOp(Message, tag=CHANGE_POLICY):
    """See Backend."""

    name: str
    change: PolicyChange


class KeysOp(Message, tag=KEYS):
    """See Backend."""

    name: str
    after: str
    limit: int


class SetKeyPausedOp(Message, tag=SET_KEY_PAUSED):
    """See Backend."""

    name: str
    key: str
    paused: bool


class WhyOp(Message, tag=WHY):
    """Backend.waiting_for."""

    numbers: list[int]


class StatsOp(Message, tag=STATS):
    """See Backend."""


class CheckOp(Message, tag=CHECK):
    """See Backend."""


class DismissOp(Message, tag=DISMISS):
    """Answer request n, which asks for notices, with those that there are. Without any answer of its own."""


class FollowOp(Message, tag=FOLLOW):
    """Asks for all that the owner commits from now on: GotFollowing, then GotGroup and GotCommitted as they come, Failed at the end.

    standby: to take over; there is one at a time. Lasts until CancelOp.
    """

    standby: bool


class MarkOp(Message, tag=MARK):
    """Asks for the number of the last group that was handed to the writer."""


class FollowedOp(Message, tag=FOLLOWED):
    """How one that follows does; n is that of its FollowOp. warm: whether it could take over at once."""

    behind: int
    warm: bool


# The answers.


class Failed(Message, tag=FAILED):
    """It raised."""

    error: ErrorRow


class Done(Message, tag=DONE):
    """It returned None."""


class GotEnqueued(Message, tag=GOT_ENQUEUED):
    """See Enqueued."""

    job: JobRow
    created: bool
    handed_over: bool

    def enqueued(self) -> Enqueued:
        """The whole."""
        return Enqueued(job_of(self.job), self.created, self.handed_over)


class GotJob(Message, tag=GOT_JOB):
    """One job."""

    job: JobRow


class GotJobs(Message, tag=GOT_JOBS):
    """Jobs handed out, or a page of them with the next one's cursor."""

    jobs: list[JobRow]
    next: int | None = None


class GotPart(Message, tag=GOT_PART):
    """Some of a batch's items, in order. more: others follow under the same n; so no frame is larger than frames may be."""

    items: list[Item]
    more: bool


class GotCount(Message, tag=GOT_COUNT):
    """How many."""

    count: int


class GotQueue(Message, tag=GOT_QUEUE):
    """One queue."""

    stats: QueueStats


class GotQueues(Message, tag=GOT_QUEUES):
    """A page of queues."""

    page: list[QueueStats]
    next: str | None


class GotKeys(Message, tag=GOT_KEYS):
    """A page of keys."""

    page: list[KeyStats]
    next: str | None


class GotKey(Message, tag=GOT_KEY):
    """One key."""

    stats: KeyStats


class GotReasons(Message, tag=GOT_REASONS):
    """What each job waits for."""

    reasons: list[list[Reason]]


class GotStats(Message, tag=GOT_STATS):
    """The totals."""

    stats: BackendStats


class GotListener(Message, tag=GOT_LISTENER):
    """It listens now."""

    cursor: str
    missed: bool


class GotNotices(Message, tag=GOT_NOTICES):
    """Events; None: there will be no more."""

    notices: list[Notice] | None
    cursor: str


class GotFollowing(Message, tag=GOT_FOLLOWING):
    """It follows now. number: of the last group before the first that comes."""

    reign: str
    number: int


class GotGroup(Message, tag=GOT_GROUP):
    """A group that is about to be committed, or a part of one: its rows as the store has them. more: other parts follow."""

    number: int
    states: dict[int, bytes | None]
    payloads: dict[int, bytes]
    queues: dict[str, bytes | None]
    counters: bytes
    more: bool


class GotCommitted(Message, tag=GOT_COMMITTED):
    """The group of this number is committed."""

    number: int


Op = (
    EnqueueOp
    | EnqueueBatchOp
    | DequeueOp
    | ConcludeOp
    | ConcludeBatchOp
    | ExtendOp
    | ExtendBatchOp
    | ReleaseOp
    | EndOp
    | RetryOp
    | JobOp
    | NumberedOp
    | JobsOp
    | QueuePageOp
    | QueueOp
    | PutPolicyOp
    | DeleteQueueOp
    | SetPausedOp
    | PurgeOp
    | RedriveOp
    | ListenOp
    | NoticesOp
    | StatsOp
    | ChangePolicyOp
    | KeysOp
    | SetKeyPausedOp
    | WhyOp
    | CheckOp
    | DismissOp
    | FollowOp
    | MarkOp
    | FollowedOp
    | GiveBackOp
)
_Got = GotEnqueued | GotJob | GotJobs | GotPart | GotCount | GotQueue | GotQueues | GotKeys | GotKey | GotReasons | GotStats
Answer = Done | _Got | GotListener | GotNotices | Failed
Fed = GotFollowing | GotGroup | GotCommitted

encode = msgspec.msgpack.Encoder().encode
decode_first = msgspec.msgpack.Decoder(Hello | Proof).decode
"""What comes before a link is proven."""
decode_asked = msgspec.msgpack.Decoder(Op | CancelOp | Delivered | Ping | Pong).decode
"""What an owner is sent."""
decode_answer = msgspec.msgpack.Decoder(Answer | Fed | Ping | Pong).decode
"""What an owner sends."""
