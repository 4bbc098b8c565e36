from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.limits import Limits

from .durable import DurableRig, RestartingRig
from .rig import RIGS, Rig
from .slow import SlowRig


async def _durable(limits: Limits) -> Rig:
    return await DurableRig(limits).opened()


async def _restarting(limits: Limits) -> Rig:
    return await RestartingRig(limits).opened()


async def _slow(limits: Limits) -> Rig:
    return SlowRig(limits)


RIGS |= {"durable": _durable, "restarting": _restarting, "slow": _slow}

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
