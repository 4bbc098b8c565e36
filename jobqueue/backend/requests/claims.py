"""Requests with which servers agree on who has an id, if a store has several partitions. They come from servers only, not from clients.

How an enqueue uses them is in backend/store/claiming.py; why this is safe is in docs/decisions/0044-partitions.md. All are for many ids at
once, and can be repeated: a request that has been carried out already answers the same, or what stands by then.
"""

from __future__ import annotations

import msgspec

from jobqueue.backend.requests.request import BetweenServers, Owner
from jobqueue.engine.claims import IdClaim


class Wanted(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An id to be claimed for a job in `partition`. void: the number of a claim that is known to be void, which is to be replaced; 0 for
    none."""

    id: str
    partition: int
    void: int = 0


class Drop(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The claim of an id that has this number."""

    id: str
    number: int


class Listed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A claim: its id, the partition that has it, and its number."""

    id: str
    partition: int
    number: int


class ClaimPage(msgspec.Struct, frozen=True):
    """Some claims, the oldest first. total: how many there are; next_number: all claims that are made from now on have at least this
    number."""

    claims: list[Listed]
    total: int
    next_number: int


class Voided(msgspec.Struct, frozen=True):
    """known: for each id, whether a job has it in the partition that was asked. below: no job is made there under a claim of the home with
    a number below this one; what was asked for, or more, unless all were known."""

    known: list[bool]
    below: int


class ClaimIds(BetweenServers[list[IdClaim | None]], frozen=True, tag="claims.claim"):
    """To the home of these ids: claim each for a job in another partition, unless it is taken.

    Answers for each, in order, what stands then. Its partition is the wanted one: the job can be enqueued there under the claim's number,
    whether this request made the claim or it stood before. Its number is 0: a job of the home itself has the id. Another partition: it has
    the id, unless it says that the claim is void (VoidClaims). None: there is no room for another claim; it is as if the queue were full.

    above: the new claims have numbers above this one (see Voided.below). Raises nothing of its own.
    """

    changes = True
    items: tuple[Wanted, ...]
    above: int = 0

    async def serve(self, owner: Owner) -> list[IdClaim | None]:
        owner.check_open(adding=True)
        now, claims = owner.clock.now(), owner.engine.claims
        claims.above(self.above)
        standing = [claims.claim(item.id, item.partition, item.void) for item in self.items]
        await owner.commit(now)
        return standing


class VoidClaims(BetweenServers[Voided], frozen=True, tag="claims.void"):
    """To the partition that has claimed ids: which of them have a job here? If some have none, refuse from now on to make a job under any
    claim of `home` with a number below `below`, with ClaimVoid: also those that are on their way now.

    So each claim of an id that is not known, with a number below `Voided.below`, is void, and can be dropped or replaced. `below` should be
    one above the highest number of the claims in question.
    """

    changes = True
    hands_in = True
    home: int
    ids: tuple[str, ...]
    below: int

    async def serve(self, owner: Owner) -> Voided:
        owner.check_open()
        now, claims = owner.clock.now(), owner.engine.claims
        known = claims.void(self.home, self.ids, self.below)
        below = claims.floors.get(self.home, 0)
        await owner.commit(now)
        return Voided(known, below)


class DropClaims(BetweenServers[int], frozen=True, tag="claims.drop"):
    """To the home: drop those of these claims that still stand. They must be void (VoidClaims). Answers how many it dropped."""

    changes = True
    hands_in = True
    claims: tuple[Drop, ...]

    async def serve(self, owner: Owner) -> int:
        owner.check_open()
        now, claims = owner.clock.now(), owner.engine.claims
        dropped = sum(claims.drop(item.id, item.number) for item in self.claims)
        await owner.commit(now)
        return dropped


class GetClaims(BetweenServers[list[IdClaim | None]], frozen=True, tag="claims.get"):
    """To the home: who has these ids? The number is 0 if a job of the home itself has the id; None: nobody, as far as the home knows."""

    ids: tuple[str, ...]

    async def serve(self, owner: Owner) -> list[IdClaim | None]:
        engine = owner.engine
        return [IdClaim(engine.place.index, 0) if name in engine.jobs.by_id else engine.claims.get(name) for name in self.ids]


class ListClaims(BetweenServers[ClaimPage], frozen=True, tag="claims.list"):
    """To a home: its claims with numbers below `below`, from the oldest on, up to `limit` after the first `skip`. For finding those of jobs
    that history has forgotten. Claims come and go between pages."""

    below: int
    skip: int = 0
    limit: int = 500

    async def serve(self, owner: Owner) -> ClaimPage:
        claims = owner.engine.claims
        page = [Listed(name, *claim) for name, claim in claims.page(self.skip, self.limit, self.below)]
        return ClaimPage(page, len(claims), owner.engine.jobs.next_number)


CLAIMS = (ClaimIds, VoidClaims, DropClaims, GetClaims, ListClaims)
