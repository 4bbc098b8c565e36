"""The messages between servers: MessagePack arrays `[what, n, …]`, where n is the number that the asking server gave its request.

Requests are named after the methods of `Backend`. They are written as plain tuples, which costs half of making a struct first, and read as
typed structs, so data of any other shape gets no further than this file. The content of most requests (specs, verdicts, leases) has field
names: a field that only one of two servers knows is left out or has its default. A job is sent by position: its lease and its conclusion
share a place. A new field goes to the end, with a default; any other change is a new VERSION, and two versions do not talk.
"""

from __future__ import annotations

import msgspec

from jobqueue.backend.base import BackendStats, Conclude, Enqueued, Extend, Listen, Notice, Release, SentSpec
from jobqueue.backend.store.shapes import ErrorRow, Item, JobRow, job_of
from jobqueue.engine.events import Kind
from jobqueue.model import JobChange, JobFilter, KeyStats, Outcome, QueueStats, Status, Verdict, Want
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

VERSION = 1

# The type of a message is its first element. 1 to 9 belong to the link itself.
HELLO, PROOF, PING, PONG, CANCEL, DELIVERED, FAILED = 1, 2, 3, 4, 5, 6, 7
ENQUEUE, ENQUEUE_BATCH, DEQUEUE, CONCLUDE, CONCLUDE_BATCH, EXTEND, EXTEND_BATCH, RELEASE, END, RETRY = range(10, 20)
JOB, NUMBERED, JOBS, QUEUE_PAGE, QUEUE, PUT_POLICY, DELETE_QUEUE, SET_PAUSED, PURGE, RETRY_FAILED = range(20, 30)
LISTEN, NOTICES, STATS, CHECK, DISMISS, FOLLOW, MARK, FOLLOWED, GIVE_BACK, RELEASE_BATCH = range(30, 40)
CHANGE_POLICY, KEYS, SET_KEY_PAUSED, WHY, EDIT, ASK, ASK_HELD, ASK_CHANGE = range(70, 78)
DONE, GOT_ENQUEUED, GOT_JOB, GOT_JOBS, GOT_PART, GOT_COUNT, GOT_QUEUE, GOT_QUEUES, GOT_STATS, GOT_LISTENER, GOT_NOTICES = range(40, 51)
GOT_FOLLOWING, GOT_GROUP, GOT_COMMITTED, GOT_KEYS, GOT_KEY, GOT_REASONS, GOT_VALUE = 51, 52, 53, 60, 61, 62, 63

_OF_JOBS = {ENQUEUE, ENQUEUE_BATCH, CONCLUDE, CONCLUDE_BATCH, EXTEND, EXTEND_BATCH, RELEASE, RELEASE_BATCH, END, RETRY, EDIT, GIVE_BACK}
_OF_QUEUES = {PUT_POLICY, DELETE_QUEUE, SET_PAUSED, PURGE, RETRY_FAILED, CHANGE_POLICY, SET_KEY_PAUSED}
CHANGES = frozenset(_OF_JOBS | _OF_QUEUES | {ASK_CHANGE})
"""Requests that may have been carried out if their answer is lost. A dequeue is not one: the jobs that it took are put back."""


class Message(msgspec.Struct, array_like=True, gc=False, tag_field="what"):
    """n: the request that this is or belongs to; 0 for messages of the link itself."""

    n: int


# The link.


class Hello(Message, tag=HELLO):
    """The first message of each side. nonce: for the other side's proof; knows: see known.py; partition: what the front's link is about."""

    version: int
    name: str
    nonce: bytes
    knows: int = 0
    partition: int = 0


class Proof(Message, tag=PROOF):
    """Proves that this side knows the secret."""

    mac: bytes


class Ping(Message, tag=PING):
    """Asks for a Pong."""


class Pong(Message, tag=PONG):
    """Shows that this side is alive."""


# The asking side.


class CancelOp(Message, tag=CANCEL):
    """The answer is no longer needed: stop. For a dequeue that was answered: put the jobs back. For a listener: it has left."""


class Delivered(Message, tag=DELIVERED):
    """The jobs of a dequeue are the worker's."""


class EnqueueOp(Message, tag=ENQUEUE):
    """See Backend.enqueue; likewise for the messages below."""

    spec: SentSpec


class EnqueueBatchOp(Message, tag=ENQUEUE_BATCH):
    """Errors among the items keep their places."""

    items: list[SentSpec]


class DequeueOp(Message, tag=DEQUEUE):
    """Ends with an answer without jobs; otherwise with Delivered or CancelOp."""

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


class ReleaseBatchOp(Message, tag=RELEASE_BATCH):
    """See EnqueueBatchOp."""

    items: list[Release]


class GiveBackOp(Message, tag=GIVE_BACK):
    """See Backend; the answer is 1 or 0."""

    id: str
    token: str


class EndOp(Message, tag=END):
    """Backend.cancel."""

    id: str


class RetryOp(Message, tag=RETRY):
    """See Backend."""

    id: str


class EditOp(Message, tag=EDIT):
    """See Backend."""

    id: str
    change: JobChange


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
    tag: str | None = None
    worker: str | None = None
    error: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    group: str | None = None
    parent: str | None = None
    retrying: bool | None = None
    error_group: str | None = None
    by_end: bool = False

    def wanted(self) -> JobFilter:
        """The filter."""
        return JobFilter(**{name: getattr(self, name) for name in self.__struct_fields__ if name != "n"})


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
    by: str | None = None


class DeleteQueueOp(Message, tag=DELETE_QUEUE):
    """See Backend."""

    name: str


class SetPausedOp(Message, tag=SET_PAUSED):
    """See Backend."""

    name: str
    paused: bool
    by: str | None = None


class PurgeOp(Message, tag=PURGE):
    """See Backend."""

    name: str


class RetryFailedOp(Message, tag=RETRY_FAILED):
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
    """Asks a listener for its next events: events are sent only when asked for. listener: the n of its ListenOp."""

    listener: int
    limit: int
    wait: float


class ChangePolicyOp(Message, tag=CHANGE_POLICY):
    """See Backend."""

    name: str
    change: PolicyChange
    by: str | None = None


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
    by: str | None = None


class WhyOp(Message, tag=WHY):
    """Backend.waiting_for."""

    numbers: list[int]


class AskOp(Message, tag=ASK):
    """Backend.ask. request: as asking.py encodes it. Three messages, since the message type decides what a lost answer means."""

    request: msgspec.Raw


class AskHeldOp(AskOp, tag=ASK_HELD):
    """A request with a wait."""


class AskChangeOp(AskOp, tag=ASK_CHANGE):
    """A request that changes something."""


class StatsOp(Message, tag=STATS):
    """See Backend."""


class CheckOp(Message, tag=CHECK):
    """See Backend."""


class DismissOp(Message, tag=DISMISS):
    """Answer request n, which asks for notices, now, with those that exist. Has no answer of its own."""


class FollowOp(Message, tag=FOLLOW):
    """Asks for everything that the owner commits from now on: GotFollowing, then GotGroup and GotCommitted as they come, Failed at the end.

    standby: follow in order to take over; there is one at a time. Lasts until CancelOp.
    """

    standby: bool


class MarkOp(Message, tag=MARK):
    """Asks for the number of the last group that was handed to the writer."""


class FollowedOp(Message, tag=FOLLOWED):
    """The state of a follower; n is that of its FollowOp. warm: whether it could take over at once."""

    behind: int
    warm: bool


# The answers.


class Failed(Message, tag=FAILED):
    """The operation raised this error."""

    error: ErrorRow


class Done(Message, tag=DONE):
    """The operation returned None."""


class GotEnqueued(Message, tag=GOT_ENQUEUED):
    """See Enqueued."""

    job: JobRow
    created: bool
    handed_over: bool

    def enqueued(self) -> Enqueued:
        """The complete struct."""
        return Enqueued(job_of(self.job), self.created, self.handed_over)


class GotJob(Message, tag=GOT_JOB):
    """One job."""

    job: JobRow


class GotJobs(Message, tag=GOT_JOBS):
    """Jobs handed out, or a page of them with the next one's cursor. quiet: see Taking."""

    jobs: list[JobRow]
    next: int | None = None
    quiet: bool = False


class GotPart(Message, tag=GOT_PART):
    """Some of a batch's items, in order. more: others follow under the same n, so that no frame exceeds the limit."""

    items: list[Item]
    more: bool


class GotCount(Message, tag=GOT_COUNT):
    """A number."""

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


class GotValue(Message, tag=GOT_VALUE):
    """The answer to an AskOp, as asking.py encodes it."""

    value: msgspec.Raw


class GotStats(Message, tag=GOT_STATS):
    """The totals."""

    stats: BackendStats


class GotListener(Message, tag=GOT_LISTENER):
    """The listener has started."""

    cursor: str
    missed: bool


class GotNotices(Message, tag=GOT_NOTICES):
    """Events; None: there will be no more."""

    notices: list[Notice] | None
    cursor: str


class GotFollowing(Message, tag=GOT_FOLLOWING):
    """Following has started. number: of the last group before the first one that comes."""

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


_ChangeOp = RetryOp | EditOp | ReleaseBatchOp
_JobOp = EnqueueOp | EnqueueBatchOp | DequeueOp | ConcludeOp | ConcludeBatchOp | ExtendOp | ExtendBatchOp | ReleaseOp | EndOp | _ChangeOp
_LookOp = JobOp | NumberedOp | JobsOp | QueuePageOp | QueueOp | ListenOp | NoticesOp | StatsOp | KeysOp | WhyOp | CheckOp | DismissOp
_QueueOp = PutPolicyOp | DeleteQueueOp | SetPausedOp | PurgeOp | RetryFailedOp | ChangePolicyOp | SetKeyPausedOp
Op = _JobOp | _LookOp | _QueueOp | AskOp | AskHeldOp | AskChangeOp | FollowOp | MarkOp | FollowedOp | GiveBackOp
_Got = GotEnqueued | GotJob | GotJobs | GotPart | GotCount | GotQueue | GotQueues | GotKeys | GotKey | GotReasons | GotValue | GotStats
Answer = Done | _Got | GotListener | GotNotices | Failed

encode = msgspec.msgpack.Encoder().encode
decode_first = msgspec.msgpack.Decoder(Hello | Proof).decode
"""Messages before a link is proven."""
decode_asked = msgspec.msgpack.Decoder(Op | CancelOp | Delivered | Ping | Pong).decode
"""Messages to an owner."""
decode_answer = msgspec.msgpack.Decoder(Answer | GotFollowing | GotGroup | GotCommitted | Ping | Pong).decode
"""Messages from an owner."""
