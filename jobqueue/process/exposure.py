"""Access to a server: its tokens, its certificate, the host names it accepts. Made from the settings, and read again at SIGHUP.

Reading again changes the rules for new requests and new connections. Held requests are checked again (api/access/holds.py). Open
connections, including links to other servers, keep the certificate with which they began.
"""

from __future__ import annotations

import logging
import ssl

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Grant, admin
from jobqueue.api.access.origins import Hosts, is_loopback
from jobqueue.process import tokens
from jobqueue.process.certificates import CannotExpose, PeerTls, loaded
from jobqueue.process.config import Settings

_logger = logging.getLogger("jobqueue.process.server")

HANDSHAKE_SECONDS = 10.0
"""Time allowed for a TLS handshake. Until it is complete, a connection counts only towards the limit of file descriptors."""

SHUTDOWN_SECONDS = 1.0
"""How long TLS waits for a client's closing message. Nothing here needs that message, and a drain would wait for it."""


class CannotListenError(Exception):
    """The address is already in use, is not one of this machine's, or is not permitted."""


class Exposure:
    """The access rules from the settings. Raises CannotExpose.

    access: the rules for requests; tls: the context for connections, None for plain HTTP; peer_tls: for links between servers, None if they
    authenticate only with a secret.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(self._grants()) if settings.secured else None
        self.access = Access(self._keys, rate=settings.rate_limit, hosts=_hosts(settings), origins=frozenset(settings.allowed_origins))
        self.tls = self._context()
        self.peer_tls = PeerTls.of(settings)

    def reload(self) -> None:
        """Read the token file and the certificates again. If one cannot be used, that is logged, and its previous content stays in
        force.
        """
        reads = [("tokens", self._reload_tokens), ("certificate", self._reload_certificate)]
        if self.peer_tls is not None:
            reads.append(("peer certificates", self.peer_tls.reload))
        for what, read in reads:
            try:
                told = read()
            except CannotExpose as error:
                _logger.warning("SIGHUP: could not reload the %s: %s", what, error)
            else:
                _logger.info("SIGHUP: %s", told)

    def _grants(self) -> list[Grant]:
        settings = self._settings
        found = [] if settings.token is None else [admin(settings.token)]
        if settings.token_file is not None:
            try:
                found += tokens.read(settings.token_file)
            except tokens.BadTokens as error:
                raise CannotExpose(str(error)) from None
        return found

    def _reload_tokens(self) -> str:
        if self._keys is None or self._settings.token_file is None:
            return "no token file to read again"
        self._keys.replace(self._grants())
        return f"{len(self._keys)} tokens known"

    def _context(self) -> ssl.SSLContext | None:
        cert, key = self._settings.tls_cert, self._settings.tls_key
        if cert is None or key is None:
            return None
        context = loaded(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, cert, key)
        # Selects the context with which a handshake continues, so that a new one takes effect as a whole: loading a pair into a context in
        # use would leave it half changed if the second half is invalid.
        context.sni_callback = self._handed_over
        return context

    def _handed_over(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        assert self.tls is not None
        connection.context = self.tls

    def _reload_certificate(self) -> str:
        if self.tls is None:
            return "no certificate to read again"
        self.tls = self._context()
        return f"new connections are served with {self._settings.tls_cert}"


def _hosts(settings: Settings) -> Hosts | None:
    """The host names to accept: the configured ones; otherwise, if the server is only on this machine and has no token, its own; otherwise
    any.
    """
    if "*" in settings.allowed_hosts:
        return None
    if settings.allowed_hosts:
        return Hosts(frozenset(settings.allowed_hosts).__contains__)
    return None if settings.secured or not is_loopback(settings.host) else Hosts(is_loopback)
