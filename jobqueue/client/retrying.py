"""How a call is carried out: sent, sent again where that is safe, and sent anew until the wait has passed.

Written once for both clients, as generators. They yield the next step, either a request to send and the server to send it to, or a number
of seconds to pause; they receive the answer, or the ConnectionFailed that occurred instead. `AsyncClient` and `Client` carry out the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import random
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from jobqueue.client import calls
from jobqueue.client.endpoint import SECONDS_MAX
from jobqueue.client.exchange import Answer
from jobqueue.client.problems import ConnectionFailed, JobFailed, UnexpectedAnswer, WaitTimeout, failure, retry_after, unconfirmed
from jobqueue.client.sending import Call, Request, check_wait
from jobqueue.client.servers import Servers, Turn, Way, is_away
from jobqueue.client.types import NewJob
from jobqueue.errors import BadRequest, Full, QueueError, Unavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import SUCCEEDED

T = TypeVar("T")

Step: TypeAlias = tuple[Request, Turn] | float
Steps: TypeAlias = Generator[Step, Answer, T]
Begun: TypeAlias = tuple[float, Turn]

WAIT_SECONDS = Limits().wait_seconds_default
"""The default wait of a dequeue, which is the server's default."""

HOLD_SECONDS = Limits().wait_seconds_max
"""The longest wait that one request asks for, which is the server's default limit."""

GIVE_BACK_TRIES_MIN = 3

TIMEOUT_SECONDS = 10.0
"""How long to wait for a connection, and for an answer beyond the time that the server can hold the request."""

NO_CONTENT = 204

_DOUBLINGS_MAX = 1_000

_PASSING = frozenset({429, 502, 503, 504})
"""Statuses from servers and proxies after which a later try can succeed."""


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """When and how a call is sent again. Only calls that are safe to repeat are.

    tries: how often one request is sent at most, 1 for never again; with several servers, how often to each. After a try that may have been
    carried out, no other server is asked at once. After a lost connection, or a 502 or 504 from a proxy, the pause before try n + 1 is a
    random time up to min(cap, base * 2 ** (n - 1)) seconds. After a 429 or a 503 it is the Retry-After of the answer plus such a random
    time; if Retry-After is more than cap seconds, the error is raised at once.

    random: returns numbers from 0 to 1, which also determine the order in which a client asks its servers; clock: monotonic seconds. Both
    are for tests. Raises ValueError.
    """

    tries: int = 5
    base: float = 0.2
    cap: float = 10.0
    random: Callable[[], float] = field(default=random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        if not self.tries >= 1:
            raise ValueError(f"tries: {self.tries} is out of range; it must be 1 or more")
        for name in ("base", "cap"):
            if not 0 <= getattr(self, name) <= SECONDS_MAX:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; it must be from 0 to {SECONDS_MAX:g} seconds")

    def pause(self, failures: int, error: QueueError) -> float | None:
        """Seconds before the next try, when `failures` tries failed before this error; None if there is no next try."""
        if failures + 1 >= self.tries:
            return None
        # Enough doublings to get from any base to any cap, and few enough for a float.
        jitter: float = self.random() * min(self.cap, self.base * 2.0 ** min(failures, _DOUBLINGS_MAX))
        if isinstance(error, ConnectionFailed) or (isinstance(error, UnexpectedAnswer) and error.status in _PASSING):
            return jitter
        if isinstance(error, Full | Unavailable) and error.retry_after <= self.cap:
            return error.retry_after + jitter
        return None


RETRYING = Retrying()


class Hold:
    """The longest wait in seconds that one request of a client asks for. It is reduced when a server says that its limit is lower."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def learn(self, error: QueueError, asked: float) -> bool:
        """Whether the request was refused because its wait was too long, and a lower limit is known now."""
        if not (isinstance(error, BadRequest) and error.field == "wait" and error.max is not None and 0 < error.max < asked):
            return False
        self.seconds = min(self.seconds, error.max)
        return True


def carried_through(call: Call[T], retrying: Retrying, hold: Hold, servers: Servers, begun: Begun | None = None) -> Steps[T]:
    """One call from beginning to end. A wait longer than one request can be held takes several requests, one after the other.

    begun: for a call whose first request was already sent: when, and to which server. The first step is that request.
    """
    if begun is None:
        began = retrying.clock()
        turn = servers.begin(call.idempotent) if servers.away else servers.current
    else:
        began, turn = begun
    deadline = began + call.wait
    left = call.wait
    course: _Course | None = None
    while True:
        held = min(left, hold.seconds)
        try:
            answer = yield call.held(held), turn
            if servers.shaken and answer.status < 500:
                servers.well(turn.at)
            if not 200 <= answer.status < 300:
                raise failure(answer)
            reply = _read(call, answer)
        except QueueError as error:
            if hold.learn(error, held):
                continue
            course = course or _Course(call, retrying, servers, began)
            following, pause = course.after_error(turn, error)
        else:
            if (left <= hold.seconds and not servers.several) or call.done(reply):
                return reply
            course = course or _Course(call, retrying, servers, began)
            following, pause = course.after_wait(turn, answer)
            if following is None and left <= hold.seconds:
                return reply
        left = max(0.0, deadline - retrying.clock())
        if pause:
            yield pause if course.failures else min(pause, left)
            left = max(0.0, deadline - retrying.clock())
        turn = following or course.again()


class _Course:
    """How one call continues after a try that did not end it. began: when its first try began."""

    def __init__(self, call: Call[Any], retrying: Retrying, servers: Servers, began: float) -> None:
        self._call = call
        self._retrying = retrying
        self._servers = servers
        self._way = Way(servers, began)
        self._carried_out = False
        """Whether a try without an answer may have been carried out."""
        self.failures = 0
        """Tries since the last answer."""

    def after_error(self, turn: Turn, error: QueueError) -> tuple[Turn | None, float]:
        """The server to ask next within the same try, or None for a new try, and the seconds to wait before it. Raises the call's final
        error.
        """
        in_doubt = _may_have_been_carried_out(error)
        self._carried_out = self._carried_out or in_doubt
        if self._servers.several and is_away(error):
            # A server whose refusal is not understood may have made the change: so a repeat must be harmless.
            strange = isinstance(error, UnexpectedAnswer) and not self._call.idempotent
            following = self._way.after(turn, error, in_doubt or strange)
            if following is not None:
                return following, 0.0
        pause = self._retrying.pause(self.failures, error) if self._call.idempotent else None
        if pause is None:
            self._way.name_all(error)
            told = unconfirmed(error, self._call.ids) if self._carried_out and self._call.changes else error
            if told is error:
                raise error
            raise told from error
        self.failures += 1
        return None, pause

    def after_wait(self, turn: Turn, answer: Answer) -> tuple[Turn | None, float]:
        """The same after an answer without a result, while there is time left to wait."""
        self.failures = 0
        # A server that is shutting down ends a wait early and says so: then the next request would be answered at once, like this one.
        pause = float(retry_after(answer) or 0)
        if pause and self._servers.several:
            following = self._way.after_leaving(turn)
            if following is not None:
                return following, 0.0
        else:
            self._way.forget()
        return None, pause

    def again(self) -> Turn:
        """The server to ask in the next try."""
        return self._way.again()


def _may_have_been_carried_out(error: QueueError) -> bool:
    """Whether the request may have had its effect in spite of this error."""
    if isinstance(error, ConnectionFailed):
        return error.sent
    if isinstance(error, UnexpectedAnswer):
        return error.status < 300 or error.status in (500, 502, 504)
    return isinstance(error, Unconfirmed)


def given_back(call: Call[Any], retrying: Retrying, hold: Hold, servers: Servers) -> Steps[None]:
    """Release the jobs of a dequeue that nobody waits for any more: a repeat with the same attempt_id returns the same leases.

    If the server never received the dequeue, the repeat takes jobs that are there now; they are put back in their places too.
    """
    lasting = replace(retrying, tries=max(retrying.tries, GIVE_BACK_TRIES_MIN))
    try:
        found = yield from carried_through(structs.replace(call, wait=0.0), lasting, hold, servers)
    except QueueError:
        return
    for job in found if isinstance(found, list) else [found] if found is not None else []:
        with suppress(QueueError):
            yield from carried_through(calls.release(job.id, job.lease.token, 0.0), lasting, hold, servers)


def _read(call: Call[T], answer: Answer) -> T:
    if not answer.body and answer.status != NO_CONTENT:
        raise UnexpectedAnswer(answer.status, f"{answer.status} without a body, which no operation answers")
    if call.quiet is not None and "jobqueue-quiet" in answer.headers:
        quiet: T = call.quiet
        return quiet
    try:
        return call.decode(answer.body)
    except (ValueError, RecursionError) as error:
        # Of a shared answer, the part can be decoded already (short.Made).
        began: object = answer.body[:200] if type(answer.body) is bytes else answer.body
        raise UnexpectedAnswer(answer.status, f"the answer cannot be read: {error}: {began!r}") from None


def no(error: QueueError) -> bool:
    """False, for a health check without an answer, or with one from a proxy that cannot reach the server. Raises any other error."""
    if isinstance(error, Unavailable) or (isinstance(error, UnexpectedAnswer) and error.status in _PASSING):
        return False
    raise error


def result_of(job: NewJob, wait: float, retrying: Retrying, hold: Hold, servers: Servers) -> Steps[Any]:
    """Enqueue a job and wait for its result, `wait` seconds in all. Raises JobFailed, WaitTimeout."""
    wait = check_wait(wait)
    deadline = retrying.clock() + wait
    enqueued = yield from carried_through(calls.enqueue(job), retrying, hold, servers)
    try:
        found = yield from carried_through(calls.job(enqueued.id, max(0.0, deadline - retrying.clock())), retrying, hold, servers)
    except QueueError as error:
        error.job_id = enqueued.id
        error.detail += f"; job {enqueued.id!r} was enqueued and continues"
        error.args = (error.detail,)
        raise
    if not calls.is_concluded(found):
        raise WaitTimeout(enqueued.id, wait)
    if found.outcome is not SUCCEEDED:
        raise JobFailed(found)
    return found.result
