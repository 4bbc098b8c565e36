"""How a call is carried through: sent, sent again where that is safe, held again until the wait has passed.

Written once for both clients, as generators: they yield what is to be done next, a request to send and whose turn it is, or a number of
seconds to pause, and are sent the answer, or thrown the ConnectionFailed that came instead. `AsyncClient` and `Client` do as they say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import random
from typing import Any, TypeAlias, TypeVar

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

WAIT_SECONDS = Limits().wait_seconds_default
"""How long a dequeue waits that does not say: as the server's default."""

HOLD_SECONDS = Limits().wait_seconds_max
"""How long one request asks to be held at most: as the server's default bound."""

GIVE_BACK_TRIES_MIN = 3

TIMEOUT_SECONDS = 10.0
"""How long to wait for a connection, and for an answer beyond the time the server may hold it."""

NO_CONTENT = 204

_DOUBLINGS_MAX = 1_000

_PASSING = frozenset({429, 502, 503, 504})
"""Statuses of servers and proxies that can do better a little later."""


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """When and how a call is sent again. Only calls whose repeat is harmless are.

    tries: the most times one request is sent, 1 for never again; with several servers, the most times it is sent to each, and to no other
    at once after what may have been done. After a lost connection, or a 502 or 504 of a proxy, the pause before try n + 1 is a random time
    up to min(cap, base * 2 ** (n - 1)) seconds. After a 429 or a 503 it is the Retry-After of the answer and such a random time on top; an
    answer that asks for more than cap seconds is not waited for.

    random: makes numbers from 0 to 1, which also say in which order a client asks its servers; clock: seconds that only rise. Both are
    for tests. Raises ValueError.
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
        """Seconds before the next try after `failures` before this error; None when there is none."""
        if failures + 1 >= self.tries:
            return None
        # Enough doublings to bring any base to any cap, and few enough that a float holds them.
        jitter: float = self.random() * min(self.cap, self.base * 2.0 ** min(failures, _DOUBLINGS_MAX))
        if isinstance(error, ConnectionFailed) or (isinstance(error, UnexpectedAnswer) and error.status in _PASSING):
            return jitter
        if isinstance(error, Full | Unavailable) and error.retry_after <= self.cap:
            return error.retry_after + jitter
        return None


RETRYING = Retrying()


class Hold:
    """How long one request of a client asks to be held at most, in seconds. Less, once a server said that it holds none so long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def learn(self, error: QueueError, asked: float) -> bool:
        """Whether it is for asking so much that the request was refused, and how much less to ask is known now."""
        if not (isinstance(error, BadRequest) and error.field == "wait" and error.max is not None and 0 < error.max < asked):
            return False
        self.seconds = min(self.seconds, error.max)
        return True


def carried_through(call: Call[T], retrying: Retrying, hold: Hold, servers: Servers) -> Steps[T]:
    """One call from beginning to end. A wait longer than what one request may be held takes several, one after the other."""
    began = retrying.clock()
    deadline = began + call.wait
    left = call.wait
    turn = servers.begin(call.idempotent) if servers.away else servers.current
    course: _Course | None = None
    while True:
        held = min(left, hold.seconds)
        try:
            answer = yield call.make(held), turn
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
    """How one call goes on after what was not its end. began: when its first try did."""

    def __init__(self, call: Call[Any], retrying: Retrying, servers: Servers, began: float) -> None:
        self._call = call
        self._retrying = retrying
        self._servers = servers
        self._way = Way(servers, began)
        self._carried_out = False
        """Whether a try that brought no answer may have been carried out."""
        self.failures = 0
        """Tries since the last answer."""

    def after_error(self, turn: Turn, error: QueueError) -> tuple[Turn | None, float]:
        """Whose turn it is in the same try, None for the next one, and the seconds before it. Raises what the call comes to."""
        in_doubt = _may_have_been_carried_out(error)
        self._carried_out = self._carried_out or in_doubt
        if self._servers.several and is_away(error):
            # What refuses by words that are not known here may have done something: a repeat must be harmless.
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
        """The same after an answer that brought nothing, with more time to wait."""
        self.failures = 0
        # A server that is shutting down ends a wait early and says so: then this is the last of the answers it gives at once.
        pause = float(retry_after(answer) or 0)
        if pause and self._servers.several:
            following = self._way.after_leaving(turn)
            if following is not None:
                return following, 0.0
        else:
            self._way.forget()
        return None, pause

    def again(self) -> Turn:
        """Whose turn the next try is."""
        return self._way.again()


def _may_have_been_carried_out(error: QueueError) -> bool:
    """Whether the request may have had its effect though it came to this."""
    if isinstance(error, ConnectionFailed):
        return error.sent
    if isinstance(error, UnexpectedAnswer):
        return error.status < 300 or error.status in (500, 502, 504)
    return isinstance(error, Unconfirmed)


def given_back(call: Call[Any], retrying: Retrying, hold: Hold, servers: Servers) -> Steps[None]:
    """Give back what a dequeue was answered that nobody waits for any more: the same attempt_id is answered the same leases.

    If the server never saw it, it takes what is there now, which goes back to its place too.
    """
    lasting = replace(retrying, tries=max(retrying.tries, GIVE_BACK_TRIES_MIN))
    try:
        found = yield from carried_through(replace(call, wait=0.0), lasting, hold, servers)
    except QueueError:
        return
    for job in found if isinstance(found, list) else [found] if found is not None else []:
        with suppress(QueueError):
            yield from carried_through(calls.release(job.id, job.lease.token, 0.0), lasting, hold, servers)


def _read(call: Call[T], answer: Answer) -> T:
    if not answer.body and answer.status != NO_CONTENT:
        raise UnexpectedAnswer(answer.status, f"{answer.status} without a body, which no operation answers")
    try:
        return call.decode(answer.body)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswer(answer.status, f"the answer cannot be read: {error}: {answer.body[:200]!r}") from None


def no(error: QueueError) -> bool:
    """False, the answer to "are you there?" when there is none, or one from a proxy that cannot reach the server. Else raises the error."""
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
        error.detail += f"; job {enqueued.id!r} was enqueued and goes on"
        error.args = (error.detail,)
        raise
    if not calls.is_concluded(found):
        raise WaitTimeout(enqueued.id, wait)
    if found.outcome is not SUCCEEDED:
        raise JobFailed(found)
    return found.result
