"""The function library of valkey.lua, brought to every primary.

**Upgrades beside running servers.** A server calls no functions but those of its own library. What means something else than before is a
new library, `jqown2` with functions `jo2_…`, since names of functions are Valkey's and not a library's: a server of the new version brings
it beside the old one, and the two take turns in owning the same rows. A release later the old one's name goes to RETIRED. An old server
whose library was deleted too soon brings it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib import resources

import hiredis

from jobqueue.backend.store.valkey_link import Link
from jobqueue.backend.store.valkey_wire import Place, Refused, refusal

LIBRARY = "jqown1"
REVISION = 2
"""REVISION of valkey.lua. A server brings its own where there is none or an older one, and leaves a newer one alone."""

RETIRED: tuple[str, ...] = ()
"""Libraries of earlier versions, deleted wherever this one is brought."""


def lacks_functions(replies: Iterable[object]) -> bool:
    """Whether a reply says that a server does not have the library, and so did nothing."""
    return any(isinstance(reply, hiredis.ReplyError) and "Function not found" in str(reply) for reply in replies)


async def revision_of(link: Link, key: str) -> int | None:
    """Which revision the primary of a key has; None for none. Raises NotNow; Denied where the user may not ask."""
    (there,) = await link.ask(key, ("FCALL_RO", "jo_revision", 0))
    if isinstance(there, hiredis.ReplyError):
        if lacks_functions([there]):
            return None
        raise Refused(f"jo_revision: {there}")
    return int(there)


async def install(link: Link) -> None:
    """Bring the library to every primary that has none, or an older one. Raises NotNow; Denied where the user may not."""
    await link.refresh()
    code = resources.files(__package__).joinpath("valkey.lua").read_bytes()
    await asyncio.gather(*(_install(link, place, code) for place in link.primaries()))


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
