"""`--peer-cert`, `--peer-key` and `--peer-ca`: what is refused at the start, and servers that know each other by them."""

from __future__ import annotations

import contextlib
import signal
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from jobqueue import Client, Retrying
from jobqueue.process.certificates import CannotExpose, PeerTls
from jobqueue.process.config import Settings
from tests.faults.process import Process
from tests.valkey import Node, needs_valkey

GUARD = 30.0


class Files:
    """A server's certificate, its key and the authority it believes in, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cert, self.key, self.ca = (folder / f"{name}.{kind}" for kind in ("cert", "key", "ca"))

    def issue(self, ca: trustme.CA, host: str = "127.0.0.1", *, believes: trustme.CA | None = None, until: datetime | None = None) -> Files:
        """A new certificate in place of the one before."""
        made = ca.issue_cert(host, not_after=until)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())
        self.ca.write_bytes((believes or ca).cert_pem.bytes())
        return self

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--peer-cert", str(self.cert), "--peer-key", str(self.key), "--peer-ca", str(self.ca))

    def settings(self, address: str | None = None, store: str | None = "valkey://a") -> Settings:
        cert, key, ca = map(str, (self.cert, self.key, self.ca))
        return Settings(store=store, peer_address=address, peer_cert=cert, peer_key=key, peer_ca=ca)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], Files]:
    return lambda name: Files(tmp_path, name)


# What a server sees of its own files before it starts.


def refusal(files: Files, address: str | None = None) -> str:
    with pytest.raises(CannotExpose) as told:
        PeerTls.of(files.settings(address))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_certificate_that_others_would_refuse_is_refused_at_the_start(files: Callable[[str], Files]) -> None:
    """Expired, of another authority, or for another name than the others connect to: one line that says what it must be."""
    ca, other = trustme.CA(), trustme.CA()
    here = files("a")
    assert "expired. It must be of the authority in" in refusal(here.issue(ca, until=datetime(2020, 1, 1, tzinfo=UTC)))
    assert "unable to get local issuer" in refusal(here.issue(ca, believes=other))
    assert "IP address mismatch" in refusal(here.issue(ca, "queue-1.internal"))
    assert "queue-2.internal: " in refusal(here, "queue-2.internal:8081")
    assert "Hostname mismatch" in refusal(here, "queue-2.internal:8081")
    assert isinstance(PeerTls.of(here.settings("queue-1.internal:8081")), PeerTls)
    assert isinstance(PeerTls.of(here.issue(ca, "::1").settings("[::1]:8081")), PeerTls)


def test_files_that_are_none_are_refused_at_the_start(files: Callable[[str], Files]) -> None:
    """A key of another certificate, no certificates of an authority, and files that are not there."""
    ca = trustme.CA()
    here, there = files("a").issue(ca), files("b").issue(ca)
    here.key.write_bytes(there.key.read_bytes())
    assert "are not a certificate and its key" in refusal(here)
    there.ca.write_text("nothing")
    assert f"{there.ca} has no CA certificates" in refusal(there)
    there.ca.unlink()
    assert f"{there.ca} has no CA certificates: No such file" in refusal(there)
    there.cert.unlink()
    assert "are not a certificate and its key: No such file" in refusal(there)


def test_a_server_alone_has_no_use_for_them(files: Callable[[str], Files]) -> None:
    """Without --store they are not looked at, nor is a TLS context made without them."""
    assert PeerTls.of(files("none").settings(store=None)) is None
    assert PeerTls.of(Settings(store="valkey://a")) is None


def test_only_tls_1_3_with_certificates_of_both_sides(files: Callable[[str], Files]) -> None:
    """Whatever the platform's defaults are."""
    made = PeerTls.of(files("a").issue(trustme.CA()).settings())
    assert made is not None
    for context in (made.server, made.client):
        assert (context.minimum_version, context.verify_mode) == (ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED)
    assert made.client.check_hostname


# Servers.


@pytest.fixture
def serve() -> Iterator[Callable[..., Process]]:
    """Starts servers on an empty store."""
    needs_valkey()
    with contextlib.ExitStack() as stack:
        node = Node()
        stack.callback(node.remove)

        def start(*flags: str, loop: str = "uvloop") -> Process:
            store = ("--store", node.url, "--acknowledge", "0", "--peer-port", "0", "--owner-lease", "30s")
            return stack.enter_context(contextlib.closing(Process(*store, *flags, loop=loop)))

        yield start


def client(server: Process, tries: int = 50) -> Client:
    return Client(f"http://127.0.0.1:{server.port}", retrying=Retrying(tries=tries, cap=1.0))


async def reread(server: Process) -> None:
    """SIGHUP, and wait until it is done."""
    server.signal(signal.SIGHUP)
    await server.said("new links between servers begin with")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_two_servers_over_mutual_tls(serve: Callable[..., Process], files: Callable[[str], Files], loop: str) -> None:
    """One owns and one forwards, without a secret; a third is let in only after SIGHUP has made the owner believe in its authority."""
    ca, renewed = trustme.CA(), trustme.CA()
    first = serve(*files("a").issue(ca).flags, loop=loop)
    with client(first) as owner:
        owner.enqueue(0, id="j0")
        second = serve(*files("b").issue(ca).flags, loop=loop)
        with client(second) as front:
            front.enqueue(1, id="j1")
            job = front.dequeue(wait=GUARD)
            assert (job and job.id) == "j0"
            third = serve(*files("c").issue(renewed).flags, loop=loop)
            with contextlib.ExitStack() as stack:
                stranger = stack.enter_context(client(third, tries=1))
                with pytest.raises(Exception, match="cannot be reached"):
                    stranger.enqueue(2, id="j2")
                assert "CERTIFICATE_VERIFY_FAILED" in await third.said("CERTIFICATE_VERIFY_FAILED")
            files("a").issue(renewed)
            await reread(first)
            with client(third) as let_in:
                let_in.enqueue(2, id="j2")
            # The link that was there stays.
            front.enqueue(3, id="j3")
        assert [owner.job(name).id for name in ("j0", "j1", "j2", "j3")] == ["j0", "j1", "j2", "j3"]


async def test_a_renewed_certificate_that_is_none_changes_nothing(serve: Callable[..., Process], files: Callable[[str], Files]) -> None:
    """SIGHUP with a key that does not fit is told, and new links begin with what was there before."""
    ca = trustme.CA()
    first = serve(*files("a").issue(ca).flags)
    with client(first) as owner:
        owner.enqueue(0, id="j0")
    files("a").issue(ca)
    files("a").key.write_bytes(b"")
    first.signal(signal.SIGHUP)
    assert "are not a certificate and its key" in await first.said("SIGHUP: could not reload the peer certificates")
    second = serve(*files("b").issue(ca).flags)
    with client(second) as front:
        front.enqueue(1, id="j1")
