"""How long a server can act as the owner, by its own clock, and the only place where a commit's answer is checked against that.

The store's fence alone keeps two owners apart, whatever a clock shows. But it cannot inform an owner that is isolated: one that was
stopped, slept through a night, or is connected to a part of the store that the rest has left behind. Such an owner must stop by itself, and
it does so MARGIN_SECONDS before the store lets another server claim.

The check is made between the store's confirmation that a group is committed and the callback that releases all requests that wait for it.
There it is made once per group, no caller can bypass it, and nothing runs in between. A process that is stopped after that acknowledges
what the store had accepted while the lease was valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobqueue.backend.group import Fatal, Finished, Group, NotNow, Writer
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.store import Store
from jobqueue.clock import Clock, Timer

_logger = logging.getLogger("jobqueue.cluster")

MARGIN_SECONDS = 1.0
"""How long before its lease ends an owner gives up, to allow for clocks that run at different speeds, and for answers on their way."""


RETRY_SECONDS = 0.5
"""How soon to try again when the store could not answer."""


class LeasePassed(Fatal):
    """The lease ended by this server's own clock before the store's answer came: another server may own the queue by now."""


class Lease:
    """The lease that a claim was granted. epoch: of the claim; seconds: how long each renewal lasts; asked_at: `time` when the claim was
    sent.

    lost: called once, in the loop, with the reason, when the lease is lost.
    """

    def __init__(self, clock: Clock, epoch: int, seconds: float, asked_at: float, lost: Callable[[str], object]) -> None:
        self.epoch = epoch
        self.seconds = seconds
        self.renewed_at = asked_at
        self.gone: str | None = None
        """Why the lease is no longer held; final."""
        self._clock = clock
        self._lost = lost
        self._timer: Timer | None = None
        self._arm()

    @staticmethod
    def time(clock: Clock) -> float:
        """Seconds on a time line that continues while the machine sleeps, if the system has one: a monotonic clock stops during sleep."""
        uptime = clock.uptime()
        return clock.now() if uptime is None else uptime.seconds

    @property
    def left(self) -> float:
        """Seconds until the owner must give up; 0 or less if it must have given up already."""
        return self.renewed_at + self.seconds - MARGIN_SECONDS - self.time(self._clock)

    @property
    def renewed_ago(self) -> float:
        """Seconds since the last successful renewal was sent to the store."""
        return self.time(self._clock) - self.renewed_at

    def held(self) -> bool:
        """Whether this server can act as the owner. Checks the clock, and gives the lease up if its timer was too late."""
        if self.gone is None and self.left <= 0:
            self.lose(f"no word from the store in {self.seconds - MARGIN_SECONDS:g} s, so another server can be the owner by now")
        return self.gone is None

    def renewed(self, asked_at: float) -> None:
        """The store has renewed the lease, in answer to a message sent at `asked_at`."""
        self.renewed_at = max(self.renewed_at, asked_at)

    def lose(self, why: str) -> None:
        """Stop holding the lease. Only the first reason counts."""
        if self.gone is None:
            self.end(why)
            self._lost(why)

    def end(self, why: str) -> None:
        """Stop holding the lease without calling `lost`: it was given back."""
        if self.gone is None:
            self.gone = why
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.now() + max(self.left, 0.0), self._look)

    def _look(self) -> None:
        if self.held():
            # It was renewed since. One timer that checks again costs nothing per commit.
            self._arm()


class LeasedWriter:
    """A Writer whose commits renew a lease, and count only while the lease is held."""

    def __init__(self, writer: Writer, lease: Lease, clock: Clock) -> None:
        self._writer = writer
        self._lease = lease
        self._clock = clock

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write. Also Fatal if the answer came after the end of the lease."""
        lease = self._lease
        sent = lease.time(self._clock)

        def answered(error: Exception | None) -> None:
            if error is None:
                lease.renewed(sent)
            if not lease.held():
                error = LeasePassed(lease.gone)
            elif isinstance(error, Fatal):
                # This comes first, so that the journal learns that the owner was deposed, which is not a failure of the storage.
                lease.lose(str(error))
            finished(error)

        self._writer.write(group, answered)

    async def close(self, tidy: bool) -> None:
        """See Writer.close."""
        await self._writer.close(tidy)


async def keep(lease: Lease, store: Store, clock: Clock) -> None:
    """Renew a lease whenever nothing else has renewed it for a third of its time, until it is no longer held."""
    while lease.held():
        due = clock.now() + lease.renewed_at + lease.seconds / 3 - lease.time(clock)
        if clock.now() < due:
            await Signal(clock).wait(due)
            continue
        asked_at = lease.time(clock)
        try:
            await store.renew(lease.epoch, lease.seconds)
        except NotNow as error:
            _logger.warning("the lease was not renewed, %.1f s are left: %s", lease.left, error)
            await Signal(clock).wait(clock.now() + RETRY_SECONDS)
        except Fatal as error:
            lease.lose(str(error))
        else:
            lease.renewed(asked_at)
