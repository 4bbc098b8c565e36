"""How long a server may act as the owner, by a clock of its own, and the one place where a commit's answer is held against it.

The store's fence alone keeps two owners apart, whatever a clock says. What it cannot do is tell an owner that nobody hears any more: one
that stood still, slept through a night, or talks to a part of the store that the rest has left behind. Such a one must stop by itself,
and it does so MARGIN_SECONDS before the store lets another claim.

Where the check is: between the store's word that a group is committed and the callback that releases all who wait for it. There it is
made once a group, no caller can get past it, and nothing runs in between. A process that stands still after that acknowledges what
the store had taken while the lease was good.
"""

from __future__ import annotations

from collections.abc import Callable

from jobqueue.backend.group import Fatal, Finished, Group, Writer
from jobqueue.clock import Clock, Timer

MARGIN_SECONDS = 1.0
"""How long before its lease ends an owner gives up: for clocks that do not run alike, and for answers that are on their way."""


class LeasePassed(Fatal):
    """The lease ended by this server's own clock before the store could be heard: another server may own the queue by now."""


class Lease:
    """What a claim has granted. epoch: of the claim; seconds: how long each renewal holds; asked_at: `time` when the claim was sent.

    lost: called once, in the loop, with why, when the lease is gone.
    """

    def __init__(self, clock: Clock, epoch: int, seconds: float, asked_at: float, lost: Callable[[str], object]) -> None:
        self.epoch = epoch
        self.seconds = seconds
        self.renewed_at = asked_at
        self.gone: str | None = None
        """Why it is held no more; final."""
        self._clock = clock
        self._lost = lost
        self._timer: Timer | None = None
        self._arm()

    @staticmethod
    def time(clock: Clock) -> float:
        """Seconds on a line that goes on while the machine sleeps, where there is one: a monotonic clock stands still then."""
        uptime = clock.uptime()
        return clock.now() if uptime is None else uptime.seconds

    @property
    def left(self) -> float:
        """Seconds until the owner must give up; not above 0 when it must have."""
        return self.renewed_at + self.seconds - MARGIN_SECONDS - self.time(self._clock)

    @property
    def renewed_ago(self) -> float:
        """Seconds since what renewed it last was sent to the store."""
        return self.time(self._clock) - self.renewed_at

    def held(self) -> bool:
        """Whether this server may act as the owner. Looks at the clock, and gives up here if it was too late to do so by itself."""
        if self.gone is None and self.left <= 0:
            self.lose(f"no word from the store in {self.seconds - MARGIN_SECONDS:g} s, so that another server may own the queue by now")
        return self.gone is None

    def renewed(self, asked_at: float) -> None:
        """The store has renewed it, in answer to what was sent at `asked_at`."""
        self.renewed_at = max(self.renewed_at, asked_at)

    def lose(self, why: str) -> None:
        """Hold it no more. Only the first reason counts."""
        if self.gone is None:
            self.end(why)
            self._lost(why)

    def end(self, why: str) -> None:
        """Hold it no more, and tell nobody: it was given back."""
        if self.gone is None:
            self.gone = why
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.now() + max(self.left, 0.0), self._look)

    def _look(self) -> None:
        if self.held():
            # It was renewed since. One timer that looks again costs nothing per commit.
            self._arm()


class LeasedWriter:
    """A Writer whose commits renew a lease, and count only while it is held."""

    def __init__(self, writer: Writer, lease: Lease, clock: Clock) -> None:
        self._writer = writer
        self._lease = lease
        self._clock = clock

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write. Fatal too when the answer came after the lease."""
        lease = self._lease
        sent = lease.time(self._clock)

        def answered(error: Exception | None) -> None:
            if error is None:
                lease.renewed(sent)
            if not lease.held():
                error = LeasePassed(lease.gone)
            elif isinstance(error, Fatal):
                # First, so that the journal hears that it was deposed, which is no failure of the storage.
                lease.lose(str(error))
            finished(error)

        self._writer.write(group, answered)

    async def close(self, tidy: bool) -> None:
        """See Writer.close."""
        await self._writer.close(tidy)
