"""How long an owner may act, and that no commit counts after that."""

from __future__ import annotations

from jobqueue.backend.group import Finished, Group, NotNow
from jobqueue.backend.store.lease import MARGIN_SECONDS, Lease, LeasedWriter, LeasePassed
from jobqueue.backend.store.store import Fenced

from .members import ServerClock

SECONDS = 5.0


class SlowWriter:
    """A Writer whose answers the test gives."""

    def write(self, group: Group, finished: Finished) -> None:
        self.finished = finished

    async def close(self, tidy: bool) -> None:
        """Nothing to close."""


class Rig:
    """A lease that begins now, and a commit that is under way."""

    def __init__(self) -> None:
        self.clock = ServerClock(1_800_000_000.0)
        self.lost: list[str] = []
        self.lease = Lease(self.clock, 1, SECONDS, Lease.time(self.clock), self.lost.append)
        self.writer = SlowWriter()
        self.said: list[tuple[Exception | None, int]] = []
        """What was said of each commit, and how many reasons of a loss were told by then."""

    def write(self) -> None:
        LeasedWriter(self.writer, self.lease, self.clock).write(Group(), lambda error: self.said.append((error, len(self.lost))))


def test_a_commit_whose_answer_comes_after_the_lease_does_not_count() -> None:
    """The process stood still; the answer is read before any timer has run, and releases nobody."""
    rig = Rig()
    rig.write()
    rig.clock.stand_still(SECONDS - MARGIN_SECONDS)
    rig.writer.finished(None)
    ((error, told),) = rig.said
    assert isinstance(error, LeasePassed)
    assert told == 1
    assert rig.lease.gone is not None


def test_a_commit_within_the_lease_renews_it_from_when_it_was_sent() -> None:
    """Not from when its answer came: the store counts from in between."""
    rig = Rig()
    rig.clock.advance(2)
    rig.write()
    rig.clock.advance(1)
    rig.writer.finished(None)
    assert rig.said == [(None, 0)]
    assert rig.lease.left == SECONDS - MARGIN_SECONDS - 1
    rig.clock.advance(2.9)
    assert not rig.lost
    rig.clock.advance(0.1)
    assert rig.lost


def test_a_sleep_of_the_machine_counts() -> None:
    """A suspended machine's monotonic clock stands still; its uptime does not."""
    rig = Rig()
    rig.write()
    rig.clock.suspend(8 * 3_600)
    rig.writer.finished(None)
    assert isinstance(rig.said[0][0], LeasePassed)


def test_a_commit_that_could_not_be_made_renews_nothing() -> None:
    """NotNow is passed on as it is while the lease is held."""
    rig = Rig()
    rig.clock.advance(2)
    rig.write()
    refused = NotNow("not now")
    rig.writer.finished(refused)
    assert rig.said == [(refused, 0)]
    assert rig.lease.left == SECONDS - MARGIN_SECONDS - 2


def test_a_refused_commit_deposes_before_anybody_is_told() -> None:
    """The owner knows that it is none before the journal hears that the commit was refused."""
    rig = Rig()
    rig.write()
    rig.writer.finished(Fenced("epoch 1 is over"))
    ((error, told),) = rig.said
    assert isinstance(error, Fenced)
    assert told == 1


def test_a_lease_that_was_lost_is_not_found_again() -> None:
    """An answer that would have renewed it in time comes after it was given up: too late, whatever it says."""
    rig = Rig()
    rig.clock.advance(3.5)
    rig.write()
    rig.clock.advance(0.5)
    assert rig.lost
    rig.writer.finished(None)
    assert isinstance(rig.said[0][0], LeasePassed)
    assert not rig.lease.held()


def test_one_that_was_given_back_is_told_to_nobody() -> None:
    """Handing over ends it, with its timer, and is no loss."""
    rig = Rig()
    rig.lease.end("it was given back")
    rig.clock.advance(60)
    assert rig.lost == []
    assert not rig.lease.held()
