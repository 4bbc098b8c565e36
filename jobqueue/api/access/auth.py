"""Which token a request carries.

**Constant time.** A token is looked up by its SHA-256 in a dict. What a client sends decides only what is hashed, not the hash: the length
of the common prefix of two digests says nothing about that of the tokens, so the lookup reveals nothing that helps to guess a token.
`compare_digest` then costs 0.2 µs and makes the last step independent of how a dict compares its keys.

**The cache.** Hashing on every request would cost 1 µs. So an accepted header is remembered as it was sent, and the usual request is one
lookup. That does not leak anything either: a dict compares strings only if their 64-bit hashes are equal, and these are keyed with a secret
of the process (SipHash). So a wrong token is compared with a right one with a probability of 2⁻⁶⁴, whatever they have in common. Only
accepted headers are remembered, so clients without a token cannot fill the cache.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from jobqueue.api.access.grants import Grant, digest_of
from jobqueue.api.access.holds import Hold
from jobqueue.errors import Unauthorized

SEEN_MAX = 1_024
"""The number of headers remembered. A token can be sent in several ways: with more spaces, or with the scheme in another case."""


class Keys:
    """The tokens that a server knows; all are replaced when their file is read again."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants: dict[bytes, Grant] = {}
        self._seen: dict[str | None, Grant] = {}
        self.held: set[Hold] = set()
        """Requests that were admitted and are held open."""
        self.replace(grants)

    def replace(self, grants: Iterable[Grant]) -> None:
        """Replace all known tokens with these. Held requests are checked again at once."""
        self._grants = {grant.digest: grant for grant in grants}
        self._seen.clear()
        for hold in list(self.held):
            hold.ask(self._grants.get(hold.grant.digest))

    def __len__(self) -> int:
        return len(self._grants)

    def grant(self, header: str | None) -> Grant:
        """The permissions that an Authorization header (RFC 6750) gives. Raises Unauthorized."""
        grant = self._seen.get(header)
        return self._looked_up(header) if grant is None else grant

    def _looked_up(self, header: str | None) -> Grant:
        if header is None or header[:7].lower() != "bearer ":
            raise Unauthorized("send the header Authorization: Bearer TOKEN")
        digest = digest_of(header[7:].strip())
        grant = self._grants.get(digest)
        if grant is None or not hmac.compare_digest(grant.digest, digest):
            raise Unauthorized("the server does not know this token")
        if len(self._seen) >= SEEN_MAX:
            self._seen.clear()
        self._seen[header] = grant
        return grant
