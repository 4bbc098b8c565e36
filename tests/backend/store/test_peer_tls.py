"""Servers that know each other by certificates instead of a secret."""

from __future__ import annotations

import asyncio
import ssl

import trustme

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.peer import PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.limits import Limits
from tests.conformance.rig import raised, spec

GUARD = 20.0


def front_context(ca: trustme.CA, certified_by: trustme.CA | None) -> ssl.SSLContext:
    """A context that trusts `ca`, with a certificate or none."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if certified_by is not None:
        certified_by.issue_cert("front.internal").configure_cert(context)
    return context


async def test_certificates_alone_let_servers_know_each_other() -> None:
    """One of the cluster's authority is served; one without a certificate, or with a stranger's, is not, and is told Moved."""
    ca, stranger, limits = trustme.CA(), trustme.CA(), Limits()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    local = LocalBackend()
    server = PeerServer(local, Identity("owner"), limits)
    port = await server.listen("127.0.0.1", 0, context)
    async with asyncio.timeout(GUARD):
        for certified_by, served in ((ca, True), (None, False), (stranger, False)):
            front = RemoteBackend(lambda: f"127.0.0.1:{port}", Identity("front"), limits, tls=front_context(ca, certified_by))
            if served:
                assert (await front.enqueue(spec("j"))).created
            else:
                assert type(await raised(front.enqueue(spec("k")))) is Moved
            await front.close()
    assert local.totals().jobs_live == 1
    await server.close()
    await local.close()
