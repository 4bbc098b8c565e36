"""Lists of jobs of several partitions: each partition's page, put together by time.

A cursor says for each partition where to continue: the partition's own cursor, "" where there is no more, "-" where nothing of it was shown
yet. So each job is listed once, whatever happens between two pages.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence

from msgspec.structs import replace

from jobqueue.backend.store.finding import Finder, together
from jobqueue.engine.sizes import job_bytes, shown_bytes
from jobqueue.errors import BadRequest
from jobqueue.limits import Limits
from jobqueue.model import Job, JobFilter

_CURSOR = re.compile(r"(?:-|[0-9]{0,18})(?:\.(?:-|[0-9]{0,18}))+")

_BEGIN, _END = "-", ""

Page = tuple[list[Job], int | None]
"""A partition's page, and its cursor."""


def _places(wanted: JobFilter, count: int) -> list[str]:
    """Where to continue in each partition. Raises BadRequest."""
    if wanted.cursor is None:
        if wanted.before is not None or wanted.after:
            raise BadRequest("cursor", "is not a cursor of this listing")
        return [_BEGIN] * count
    places = wanted.cursor.split(".")
    if len(places) != count or _CURSOR.fullmatch(wanted.cursor) is None:
        raise BadRequest("cursor", "is not a cursor of this listing")
    return places


def _at(wanted: JobFilter, place: str, limit: int) -> JobFilter:
    """What one partition is asked."""
    number = None if place == _BEGIN else int(place)
    if wanted.after is None:
        return replace(wanted, cursor=None, before=number, limit=limit)
    return replace(wanted, cursor=None, after=number or 0, limit=limit)


def _when(wanted: JobFilter, job: Job, index: int) -> tuple[float, int, int]:
    """What a list is sorted by, ascending."""
    at = job.conclusion.concluded_at if wanted.by_end and job.conclusion is not None else job.created_at
    sign = -1 if wanted.after is None else 1
    return sign * at, index, sign * job.number


class Pages:
    """Pages of jobs of all partitions."""

    def __init__(self, finder: Finder, limits: Limits) -> None:
        self._finder = finder
        self._limits = limits

    async def page(self, wanted: JobFilter) -> tuple[list[Job], str | None]:
        """See Backend.jobs; `wanted` names no queue."""
        count = self._finder.count
        places = _places(wanted, count)
        going = [index for index, place in enumerate(places) if place != _END]
        pages = dict(zip(going, await self._asked(wanted, places, dict.fromkeys(going, wanted.limit)), strict=True))
        shown = self._merged(wanted, pages)
        counts = {index: sum(at == index for at, _ in shown) for index in going}
        cut = {index: kept for index, kept in counts.items() if 0 < kept < len(pages[index][0])}
        if wanted.by_end and cut:
            # Only the partition can say where its page would have ended, so it is asked for just that much.
            for index, page in zip(cut, await self._asked(wanted, places, cut), strict=True):
                pages[index] = page
                counts[index] = len(page[0])
            shown = self._merged(wanted, {index: (jobs[: counts[index]], None) for index, (jobs, _) in pages.items()}, whole=True)
        for index in going:
            jobs, cursor = pages[index]
            if counts[index] == len(jobs):
                places[index] = _END if cursor is None else str(cursor)
            elif counts[index]:
                places[index] = str(jobs[counts[index] - 1].number)
            elif places[index] == _BEGIN and wanted.after is None and not wanted.by_end:
                # Jobs that are made from now on are not in the list.
                places[index] = str(jobs[0].number + 1)
        found = []
        for index, job in shown:
            self._finder.places.seen(job, index)
            found.append(job)
        return found, None if all(place == _END for place in places) else ".".join(places)

    async def _asked(self, wanted: JobFilter, places: Sequence[str], limits: dict[int, int]) -> list[Page]:
        return await together(self._of(index, _at(wanted, places[index], limit)) for index, limit in limits.items())

    async def _of(self, index: int, wanted: JobFilter) -> Page:
        jobs, cursor = await self._finder.backends[index].jobs(wanted)
        assert not isinstance(cursor, str)
        return jobs, cursor

    def _merged(self, wanted: JobFilter, pages: dict[int, Page], whole: bool = False) -> list[tuple[int, Job]]:
        """The jobs to show, each with its partition: in order, as many as may be. Nothing is shown that is behind the end of a partition's
        page which has a next one. whole: all of them.
        """
        left = {index: len(jobs) for index, (jobs, _) in pages.items()}
        # A merge, so that each partition's jobs stay in their order whatever its clock has done.
        lists = ([(index, job) for job in jobs] for index, (jobs, _) in pages.items())
        order = heapq.merge(*lists, key=lambda each: _when(wanted, each[1], each[0]))
        if whole:
            return list(order)
        if any(not left[index] and cursor is not None for index, (_, cursor) in pages.items()):
            # It has looked at as many jobs as it may, and found none so far.
            return []
        shown: list[tuple[int, Job]] = []
        room = self._limits.answer_bytes_max
        for index, job in order:
            room -= job_bytes(job) if wanted.payloads else shown_bytes(job)
            if len(shown) >= wanted.limit or (room < 0 and shown):
                break
            shown.append((index, job))
            left[index] -= 1
            if not left[index] and pages[index][1] is not None:
                break
        return shown
