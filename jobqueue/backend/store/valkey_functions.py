"""The function library of valkey.lua, installed on every primary.

**Upgrades beside running servers.** A server calls only functions of its own library. A function whose meaning changes goes into a new
library, `jqown2` with functions `jo2_…`, since function names are global in Valkey, not per library. A server of the new version installs
it beside the old one, and the two take turns in owning the same rows. One release later, the old library's name goes to RETIRED. If an old
server's library was deleted too soon, the server installs it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib import resources

import hiredis

from jobqueue.backend.group import NotNow
from jobqueue.backend.store.valkey_link import Link
from jobqueue.backend.store.valkey_wire import Place, Refused, refusal, slot_of

LIBRARY = "jqown1"
REVISION = 2
"""REVISION of valkey.lua. A server installs its own if there is none or an older one, and does not touch a newer one."""

RETIRED: tuple[str, ...] = ()
"""Libraries of earlier versions, deleted wherever this one is installed."""


def lacks_functions(replies: Iterable[object]) -> bool:
    """Whether a reply shows that a server does not have the library, and so did nothing."""
    return any(isinstance(reply, hiredis.ReplyError) and "Function not found" in str(reply) for reply in replies)


async def revision_of(link: Link, key: str) -> int | None:
    """The revision on the primary of a key; None if there is none. Raises NotNow; Denied if the user is not allowed to ask."""
    (there,) = await link.ask(key, ("FCALL_RO", "jo_revision", 0))
    if isinstance(there, hiredis.ReplyError):
        if lacks_functions([there]):
            return None
        raise Refused(f"jo_revision: {there}")
    return int(there)


async def install(link: Link, key: str | None = None) -> None:
    """Install the library on every primary that has none, or an older one. Raises NotNow; Denied if the user is not allowed to.

    key: only the primary of this key must get it; another one that cannot be reached now does not matter.
    """
    async with link.installing:
        await link.refresh()
        code = resources.files(__package__).joinpath("valkey.lua").read_bytes()
        places = sorted(link.primaries())
        results = await asyncio.gather(*(_install(link, place, code) for place in places), return_exceptions=True)
        needed = None if key is None else link.primary(slot_of(key))
        for place, result in zip(places, results, strict=True):
            if isinstance(result, BaseException) and (key is None or place == needed or not isinstance(result, NotNow)):
                raise result


async def _install(link: Link, place: Place, code: bytes) -> None:
    connection = await link.connection(place, "calls")
    seconds = link.patience.call
    (there,) = await connection.call(("FCALL_RO", "jo_revision", 0), seconds=seconds)
    if not isinstance(there, hiredis.ReplyError):
        if there >= REVISION:
            return
    elif not lacks_functions([there]):
        raise refusal(place, there) or Refused(f"{place}: {there}")
    (loaded,) = await connection.call(("FUNCTION", "LOAD", "REPLACE", code), seconds=seconds)
    if isinstance(loaded, hiredis.ReplyError):
        raise refusal(place, loaded) or Refused(f"{place}: FUNCTION LOAD: {loaded}")
    for name in RETIRED:
        (gone,) = await connection.call(("FUNCTION", "DELETE", name), seconds=seconds)
        if isinstance(gone, hiredis.ReplyError) and (refused := refusal(place, gone)):
            raise refused
