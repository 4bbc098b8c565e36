"""Whose turn it is among several servers: by themselves, with a clock and a chance of their own."""

from __future__ import annotations

import pytest

from jobqueue.client.problems import ConnectionFailed
from jobqueue.client.retrying import Hold, Retrying, Step, carried_through
from jobqueue.client.sending import once
from jobqueue.client.servers import AWAY_SECONDS_MAX, Servers, Turn
from jobqueue.errors import Draining

A, B, C = range(3)

PURGE = once("POST", "/queues/q/purge", bool, idempotent=False)
"""What must never be sent twice."""


class Made:
    """Servers in the order given, ten seconds for a try. now: what the clock says; chance: what is drawn."""

    def __init__(self, count: int = 3) -> None:
        self.now = 0.0
        self.chance = 1.0
        urls = [f"http://{chr(ord('a') + at)}" for at in range(count)]
        self.servers = Servers(urls, 10.0, lambda: self.chance, lambda: self.now)


@pytest.fixture
def made() -> Made:
    return Made()


def turn_of(step: Step) -> Turn:
    assert not isinstance(step, float)
    return step[1]


def unreachable() -> ConnectionFailed:
    error = ConnectionFailed("refused")
    error.sent = False
    return error


def test_a_server_is_left_alone_ever_longer(made: Made) -> None:
    """Twice as long each time up to a bound, half of it by chance; and once it answers it is as if nothing had been."""
    servers = made.servers
    seconds = []
    for _ in range(8):
        servers.failed(A)
        began = made.now
        while servers.begin(True).at != A:
            made.now += 0.5
        seconds.append(made.now - began)
        # The one that finds out is on its way: nobody else is sent there.
        assert servers.begin(True).at == B
        made.now += AWAY_SECONDS_MAX
    assert seconds[:3] == [2, 8, 32]
    assert max(seconds) == AWAY_SECONDS_MAX
    servers.well(A)
    assert (servers.current.at, servers.away, servers.shaken) == (A, False, False)
    made.chance = 0.0
    servers.failed(A)
    made.now += 0.9
    assert servers.begin(True).at == B
    made.now += 0.1
    assert servers.begin(True).at == A


def test_what_may_not_be_repeated_finds_nothing_out(made: Made) -> None:
    """It goes to a server that is known to answer."""
    made.servers.failed(A)
    made.now = 100.0
    assert made.servers.begin(False).at == B
    assert made.servers.begin(True).at == A


def test_many_failures_at_once_are_one(made: Made) -> None:
    """A thousand calls that are held by a server that dies say the same."""
    for _ in range(1_000):
        made.servers.failed(A)
    made.now = 2.0
    assert made.servers.begin(True).at == A


def test_those_that_failed_are_asked_last(made: Made) -> None:
    """Who failed longest ago first; and where all have failed, that one is the current."""
    servers = made.servers
    servers.failed(B)
    assert servers.current.at == A
    made.now = 0.5
    servers.failed(A)
    assert servers.current.at == C
    made.now = 1.0
    servers.failed(C)
    assert servers.current.at == B
    assert [turn.at for asked in ((), (B,), (A, B)) if (turn := servers.next(asked))] == [B, A, C]
    assert servers.next((A, B, C)) is None
    servers.well(C)
    assert servers.current.at == C


def test_connecting_to_all_takes_no_longer_than_one_try(made: Made) -> None:
    """Each has its share of what is left, and the last one what is left for its answer too."""
    steps = carried_through(
        once("POST", "/queues/q/purge", bool, idempotent=False), Retrying(clock=lambda: made.now), Hold(55), made.servers
    )
    first = turn_of(next(steps))
    assert (first.at, first.seconds, first.connect_seconds) == (A, 10, pytest.approx(10 / 3))
    made.now += first.connect_seconds
    second = turn_of(steps.throw(unreachable()))
    assert (second.at, second.seconds, second.connect_seconds) == (B, pytest.approx(20 / 3), pytest.approx(10 / 3))
    # Refused at once: the next has more.
    third = turn_of(steps.throw(unreachable()))
    assert (third.at, third.seconds, third.connect_seconds) == (C, pytest.approx(20 / 3), pytest.approx(20 / 3))
    with pytest.raises(ConnectionFailed):
        steps.throw(unreachable())


def test_no_other_is_asked_where_the_time_of_the_try_is_up(made: Made) -> None:
    """The call ends with what there is; one that may be repeated pauses first and goes on at the next with its whole time."""
    again = Retrying(clock=lambda: made.now, random=lambda: 1.0)
    for repeatable in (False, True):
        made.now += 1_000
        steps = carried_through(once("POST", "/queues/q/purge", bool, idempotent=repeatable), again, Hold(55), made.servers)
        asked = turn_of(next(steps))
        made.now += 10
        if not repeatable:
            with pytest.raises(ConnectionFailed):
                steps.throw(unreachable())
            continue
        assert steps.throw(unreachable()) == 0.2
        following = turn_of(next(steps))
        assert following.at != asked.at
        assert following.seconds == 10


def test_one_that_never_answers_costs_one_call_its_time(made: Made) -> None:
    """That call goes on at the next, if it may be repeated, with the whole time; the calls after it begin there."""
    again = Retrying(clock=lambda: made.now, random=lambda: 1.0)
    steps = carried_through(once("GET", "/queues", bool), again, Hold(55), made.servers)
    assert turn_of(next(steps)).at == A
    made.now += 10
    assert steps.throw(ConnectionFailed("too late")) == 0.2
    assert turn_of(next(steps)) == made.servers.turns[B]
    assert turn_of(next(carried_through(once("GET", "/queues", bool), again, Hold(55), made.servers))).at == B


@pytest.mark.parametrize(("seconds", "goes_on"), [(0.0, True), (5.0, True), (5.1, False)])
def test_after_a_slow_refusal_the_next_is_not_cut_short(made: Made, seconds: float, goes_on: bool) -> None:
    """It is asked at once if it has half of the time at least."""
    steps = carried_through(
        once("POST", "/queues/q/purge", bool, idempotent=False), Retrying(clock=lambda: made.now), Hold(55), made.servers
    )
    next(steps)
    made.now += seconds
    if goes_on:
        assert turn_of(steps.throw(Draining("shutting down"))).at == B
    else:
        with pytest.raises(Draining):
            steps.throw(Draining("shutting down"))


def test_a_client_of_one_server_has_nobody_else() -> None:
    """It pauses and asks the same again, with all the time for connecting."""
    made = Made(1)
    steps = carried_through(once("GET", "/queues", bool), Retrying(random=lambda: 1.0), Hold(55), made.servers)
    for pause in (0.2, 0.4):
        assert turn_of(next(steps)) == Turn(0, "http://a", 10.0, 10.0)
        assert steps.throw(unreachable()) == pause
    assert made.servers.shaken is False
