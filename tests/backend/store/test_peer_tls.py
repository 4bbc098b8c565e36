"""Servers that know each other by certificates instead of a secret."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from functools import partial

import pytest
import trustme

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.peer import PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.limits import Limits
from tests.conformance.rig import raised, spec

GUARD = 20.0
PAST = datetime(2020, 1, 1, tzinfo=UTC)
HERE = "127.0.0.1"

OURS, STRANGER = trustme.CA(), trustme.CA()

CERTIFICATES = {
    "good": OURS.issue_cert(HERE),
    "a stranger's": STRANGER.issue_cert(HERE),
    "expired": OURS.issue_cert(HERE, not_after=PAST),
    "of another host": OURS.issue_cert("elsewhere.internal"),
}


def front_context(shown: str) -> ssl.SSLContext:
    """A context that trusts our authority, with a certificate or none."""
    context = ssl.create_default_context()
    OURS.configure_trust(context)
    if shown in CERTIFICATES:
        CERTIFICATES[shown].configure_cert(context)
    return context


def owner_context(shown: str) -> ssl.SSLContext:
    """One that asks for certificates of our authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    OURS.configure_trust(context)
    CERTIFICATES[shown].configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("owner", "front", "served"),
    [
        ("good", "good", True),
        # Nobody connects to a front, so the name in its certificate says nothing.
        ("good", "of another host", True),
        ("good", "none", False),
        ("good", "a stranger's", False),
        ("good", "expired", False),
        ("a stranger's", "good", False),
        ("expired", "good", False),
        ("of another host", "good", False),
    ],
)
async def test_certificates_alone_let_servers_know_each_other(
    owner: str, front: str, served: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever shows one of the authority is served; else nothing is asked or done, the caller is told Moved, and one line says why."""
    limits, local = Limits(), LocalBackend()
    server = PeerServer(local, Identity("owner"), limits)
    port = await server.listen(HERE, 0, owner_context(owner))
    async with asyncio.timeout(GUARD):
        asking = RemoteBackend(lambda: f"{HERE}:{port}", Identity("front"), limits, tls=partial(front_context, front))
        if served:
            assert (await asking.enqueue(spec("j"))).created
        else:
            assert type(await raised(asking.enqueue(spec("k")))) is Moved
            assert [record.getMessage() for record in caplog.records if "cannot be reached: " in record.getMessage()]
        await asking.close()
    assert local.totals().jobs_live == served
    await server.close()
    await local.close()
