from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.backend.store.postgres import PostgresStore
from jobqueue.limits import Limits
from tests.postgres import postgres_server

from .durable import DurableRig, RestartingRig
from .rig import RIGS, Rig
from .slow import SlowRig
from .stores import MakeStore, store_rigs


async def _durable(limits: Limits) -> Rig:
    return await DurableRig(limits).opened()


async def _restarting(limits: Limits) -> Rig:
    return await RestartingRig(limits).opened()


async def _slow(limits: Limits) -> Rig:
    return SlowRig(limits)


def _postgres() -> MakeStore:
    server = postgres_server()
    schema = server.new_schema()
    return lambda: PostgresStore(server.url(), schema=schema, lossy=True)


RIGS |= {"durable": _durable, "restarting": _restarting, "slow": _slow}
RIGS |= store_rigs("postgres", _postgres)

MakeBackend = Callable[..., Awaitable[Rig]]


@pytest.fixture(params=sorted(RIGS))
async def make_backend(request: pytest.FixtureRequest) -> AsyncIterator[MakeBackend]:
    """Makes backends of one kind, each in its rig, with the given bounds; closes them all."""
    rigs: list[Rig] = []

    async def make(**bounds: float) -> Rig:
        rig = await RIGS[request.param](Limits(**bounds))  # type: ignore[arg-type]
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        await rig.close()


@pytest.fixture
async def rig(make_backend: MakeBackend) -> Rig:
    """A backend with the default bounds."""
    return await make_backend()
