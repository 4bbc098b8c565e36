"""Certificates: reading them from files, and mutual TLS between the servers of one queue."""

from __future__ import annotations

import ssl
from ssl import TLSVersion

from jobqueue.process.config import Settings

_STEPS_MAX = 10
"""More steps than a TLS handshake in memory takes."""


class CannotExpose(Exception):
    """A token file or a certificate that cannot be used. str() is one line that says which and why."""


def loaded(protocol: ssl._SSLMethod, oldest: TLSVersion, cert: str, key: str) -> ssl.SSLContext:
    """A context that presents a certificate. Raises CannotExpose."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = oldest
    try:
        # Without a password argument, an encrypted key would prompt for its password on the terminal, which a server does not have.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise CannotExpose(f"{cert} and {key} are not a certificate and its key: {_reason(error)}") from None
    return context


class PeerTls:
    """TLS between the servers of one queue. Each presents a certificate of the same authority, and requires one from the other side.

    The holder of such a certificate is accepted as a server of the queue; the connecting side also checks that the certificate contains the
    name that it connects to. server: the context to listen with; client: the one to connect with, replaced after a renewal. Raises
    CannotExpose.
    """

    def __init__(self, cert: str, key: str, ca: str, host: str) -> None:
        """host: the name at which the others reach this server; its own certificate must contain it."""
        self._files = (cert, key, ca)
        self._host = host
        self._accepting, self.client = self._contexts()
        self.server = self._accepting
        # A handshake's context is chosen when the handshake begins, so a renewed certificate takes effect as a whole.
        self.server.sni_callback = self._handed_over

    @classmethod
    def of(cls, settings: Settings) -> PeerTls | None:
        """From the settings; None if they name no certificate, or if there are no other servers. Raises CannotExpose."""
        cert, key, ca = settings.peer_cert, settings.peer_key, settings.peer_ca
        if settings.store is None or cert is None or key is None or ca is None:
            return None
        host = settings.peer_host if settings.peer_address is None else settings.peer_address.rpartition(":")[0]
        return cls(cert, key, ca, host.strip("[]"))

    def reload(self) -> str:
        """Read the files again, for new links; returns a line for the log. If it raises CannotExpose, nothing has changed."""
        self._accepting, self.client = self._contexts()
        return f"new links between servers begin with {self._files[0]}"

    def _handed_over(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._accepting

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        cert, key, ca = self._files
        # Both sides are jobqueue servers, so no older version is needed.
        server = loaded(ssl.PROTOCOL_TLS_SERVER, TLSVersion.TLSv1_3, cert, key)
        client = loaded(ssl.PROTOCOL_TLS_CLIENT, TLSVersion.TLSv1_3, cert, key)
        server.verify_mode = ssl.CERT_REQUIRED
        for context in (server, client):
            try:
                context.load_verify_locations(ca)
            except (OSError, ValueError) as error:
                raise CannotExpose(f"{ca} has no CA certificates: {_reason(error)}") from None
        self._try(server, client)
        return server, client

    def _try(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        """Check that this server would accept its own certificate. Raises CannotExpose."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = [
            (client.wrap_bio(to_client, to_server, server_hostname=self._host), "others would not go on with this server"),
            (server.wrap_bio(to_server, to_client, server_side=True), "others would not let this server in"),
        ]
        for step in range(_STEPS_MAX):
            side, what = sides[step % 2]
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                cert, _, ca = self._files
                why = error.verify_message.rstrip(".")
                raise CannotExpose(
                    f"{what} at {self._host}: {cert} does not pass: {why}. It must be of the authority in {ca}, "
                    "in date, hold the name by which the others reach this server (--peer-address), and be for servers and for clients"
                ) from None
            except (OSError, ValueError) as error:
                raise CannotExpose(f"{what} at {self._host}: {_reason(error)}") from None


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else error
