"""One connection between two servers: frames, the proof that both know the secret, heartbeats, and a limit on unwritten data.

A frame is 4 bytes of length, big-endian, then that many bytes of MessagePack (messages.py). The side that connects, the front, sends Hello;
the side that listens, the owner, answers with its own Hello. The front first proves that it knows the secret, then the owner does. Each
proof is an HMAC over both nonces, both names and the side that gives it, so no proof can be sent back or used again, and the secret itself
is never sent. An attacker who can change data in transit can still take over the link after the proofs: use TLS against that
(docs/security.md).

Anything invalid, late or too large ends the connection with one line in the log. A link never sends anything twice.

A side that has read nothing for HEARTBEAT_SECONDS sends a Ping, and treats the link as broken after HEARTBEATS_MISSED of them without any
byte in return. Only this detects a machine that has lost power: its connections look idle for ever.

Times are in seconds on the injected clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from jobqueue.backend.store.known import KNOWS
from jobqueue.backend.store.messages import HELLO, PING, PONG, PROOF, VERSION, Hello, Ping, Pong, Proof, decode_first, encode
from jobqueue.clock import Clock, Timer
from jobqueue.errors import TooLarge
from jobqueue.limits import MIB, Limits

logger = logging.getLogger("jobqueue.peer")

HEARTBEAT_SECONDS = 1.0
HEARTBEATS_MISSED = 3
HELLO_SECONDS = 2.0
"""The longest time that the first exchange can take."""

CLOSE_SECONDS = 1.0
"""The longest time that closing a link can take, to write what was sent before."""

HELLO_BYTES_MAX = 512
"""The largest frame that is accepted before its sender has proven anything."""

SECRET_CHARS_MIN = 16
"""An eavesdropper on a proof can try secrets against it without a time limit."""

NAME_CHARS_MAX = 200
NONCE_BYTES = 32
PAUSE_BYTES = MIB
"""When this many bytes are unwritten, an owner stops reading requests."""

_LENGTH = 4


class BadFrame(Exception):
    """The other side sent something invalid. str() says what."""


class Identity(msgspec.Struct, frozen=True):
    """How a server identifies itself to others. name: its own; secret: the cluster's, None if only certificates decide who can connect
    (mutual TLS).
    """

    name: str
    secret: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if the identity cannot work."""
        if not 0 < len(self.name.encode()) <= NAME_CHARS_MAX:
            raise ValueError(f"the server's name must have 1 to {NAME_CHARS_MAX} bytes")
        if self.secret is not None and len(self.secret) < SECRET_CHARS_MIN:
            raise ValueError(f"the secret of the servers must have at least {SECRET_CHARS_MIN} characters")

    def __repr__(self) -> str:
        return f"<Identity {self.name!r}>"

    def mac(self, side: bytes, front: Hello, owner: Hello) -> bytes:
        """The proof of one side."""
        parts = [b"jobqueue-peer", side, b"%d" % VERSION, front.name.encode(), front.nonce, owner.name.encode(), owner.nonce]
        if front.partition:
            # Older servers, which have no partitions, give their proofs without it.
            parts.append(b"%d" % front.partition)
        told = b"".join(len(part).to_bytes(_LENGTH) + part for part in parts)
        return hmac.digest((self.secret or "").encode(), told, hashlib.sha256)


def frame_bytes_max(limits: Limits) -> int:
    """The largest frame: a whole answer, or one job with everything that it can contain, plus overhead."""
    return limits.answer_bytes_max + 4 * limits.body_bytes_max + MIB


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Link(asyncio.Protocol):
    """One side of a connection. Subclasses handle messages once both sides are proven.

    front: whether this is the side that connected. partition: what the link is about; the owner learns it from the front. decode: decodes
    what the other side sends from then on. broken: why the link has ended, None while it is open. Counts of frames, bytes and writes are
    for tests and metrics.
    """

    def __init__(
        self, identity: Identity, limits: Limits, clock: Clock, *, front: bool, decode: Callable[[Any], Any], partition: int = 0
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.front = front
        self.proven = False
        self.broken: str | None = None
        self.peer = "?"
        """The other server's name, once it is proven; its address before."""
        self.frame_bytes_max = frame_bytes_max(limits)
        self.unwritten_bytes_max = max(limits.unwritten_bytes_max, 2 * self.frame_bytes_max)
        self.bytes_in = self.bytes_out = self.writes = 0
        self.transport: _Transport | None = None
        self._decode = decode
        self._hello = Hello(0, VERSION, identity.name, os.urandom(NONCE_BYTES), KNOWS, partition)
        self._theirs: Hello | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._timer: Timer | None = None
        self._missed = 0
        self._seen = 0
        self._full = False

    @property
    def knows(self) -> int:
        """What the other side supports, once it is proven; see known.py."""
        return 0 if self._theirs is None else self._theirs.knows

    @property
    def partition(self) -> int:
        """The partition that the link is about, once the front has said it."""
        hello = self._hello if self.front else self._theirs
        return 0 if hello is None else hello.partition

    def __repr__(self) -> str:
        state = self.broken or ("proven" if self.proven else "hello")
        return f"<{type(self).__name__} {self.peer} {state} in={self.bytes_in} out={self.bytes_out}>"

    # Methods for subclasses.

    def opened(self) -> None:
        """Both sides are proven."""

    def got(self, message: Any) -> None:
        """Handle a message; they come in order. May raise BadFrame."""

    def misread(self, frame: Any, error: Exception) -> None:
        """Handle a frame of a proven link that `decode` cannot read, or raise BadFrame."""
        raise BadFrame(f"sent what cannot be read: {error}")

    def lost(self, reason: str) -> None:
        """The link is over; called once."""

    def flushed(self) -> None:
        """The transport has everything that was sent so far."""

    # Writing.

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message, together with all others of this turn of the loop; on a broken link, send nothing. Raises TooLarge, having sent
        nothing.
        """
        data = encode(message)
        size = len(data)
        if size > self.frame_bytes_max:
            raise TooLarge(None, f"{size} bytes are more than servers send each other at once ({self.frame_bytes_max})")
        if self.broken is not None:
            return
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out += (size.to_bytes(_LENGTH), data)
        self._out_bytes += size + _LENGTH
        if self._out_bytes > self.unwritten_bytes_max:
            self.fail("reads too slowly: too much is unwritten")

    def flush(self) -> None:
        """Give the transport now what was sent in this turn."""
        self._flush()

    def _flush(self) -> None:
        if self.broken is not None or not self._out:
            return
        out, self._out = self._out, []
        count, self._out_bytes = self._out_bytes, 0
        transport = self.transport
        assert transport is not None
        if transport.get_write_buffer_size() + count > self.unwritten_bytes_max:
            self.fail("reads too slowly: too much is unwritten")
            return
        self.flushed()
        self.bytes_out += count
        self.writes += 1
        transport.write(b"".join(out))
        if self._buffer and not self.front:
            self._read_buffer()

    @property
    def unwritten_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._out_bytes + (0 if self.transport is None else self.transport.get_write_buffer_size())

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._full = True
        if not self.front and self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._full = False
        if not self.front and self.transport is not None and self.broken is None:
            self.transport.resume_reading()
            self._read_buffer()

    # The connection.

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self.transport = transport
        transport.set_write_buffer_limits(high=PAUSE_BYTES)
        address = transport.get_extra_info("peername")
        self.peer = "{}:{}".format(*address[:2]) if isinstance(address, tuple) else "a local socket"
        self._timer = self.clock.call_at(self.clock.now() + HELLO_SECONDS, self._late)
        if self.identity.secret is None:
            tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
            if tls is None or not tls.getpeercert():
                self.fail("shows no certificate, and there is no secret to know it by")
                return
        if self.front:
            self._say_hello()

    def _say_hello(self) -> None:
        hello = self._hello
        about = (hello.partition,) if hello.partition else ()
        self.send((HELLO, 0, hello.version, hello.name, hello.nonce, hello.knows, *about))

    def _late(self) -> None:
        self._timer = None
        self.fail(f"has not proven within {HELLO_SECONDS:g} s who it is")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self.proven and self.broken is None:
            logger.log(
                logging.INFO if exc is None else logging.WARNING, "link to %s ended: %s", self.peer, exc or "it closed the connection"
            )
        # If certificates are required, only this shows that the other side does not accept ours.
        self._end("the connection broke" if exc is None else f"the connection broke: {exc}")

    def eof_received(self) -> None:
        """See asyncio.Protocol; the transport then closes."""

    def fail(self, reason: str) -> None:
        """End the link because the other side did something wrong, or did not respond."""
        if self.broken is None:
            logger.warning("link to %s ended: it %s", self.peer, reason)
            self._end(f"it {reason}")

    def close(self) -> None:
        """End the link; what was sent before is written."""
        if self.broken is None:
            self._flush()
        if self.broken is None and self.transport is not None:
            transport = self.transport
            self._end("this server closed the link", abort=False)
            if transport.is_closing():
                # The other side has closed it. A TLS transport that is closed a second time no longer knows its buffer size.
                return
            transport.close()
            if transport.get_write_buffer_size():
                # A side that does not read must not keep the connection open.
                self.clock.call_at(self.clock.now() + CLOSE_SECONDS, transport.abort)

    def _end(self, reason: str, abort: bool = True) -> None:
        if self.broken is not None:
            return
        self.broken = reason
        self._buffer = bytearray()
        self._out = []
        self._out_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        if abort and self.transport is not None:
            self.transport.abort()
        self.lost(reason)

    # Reading.

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.broken is not None:
            return
        self.bytes_in += len(data)
        if self._buffer:
            self._buffer += data
            self._read_buffer()
        else:
            used = self._read(memoryview(data))
            if used < len(data) and self.broken is None:
                self._buffer += data[used:] if used else data

    def _read_buffer(self) -> None:
        buffer = self._buffer
        used = self._read(memoryview(buffer))
        if used and self.broken is None:
            # Make a new buffer: if an exception is kept somewhere, it may refer to a view of the old one, which then cannot be shortened.
            self._buffer = buffer[used:]

    @property
    def _held_up(self) -> bool:
        """Whether an owner has so much to write that it stops handling requests. A front always reads."""
        return not self.front and (self._full or self._out_bytes > PAUSE_BYTES)

    def _read(self, view: memoryview) -> int:
        """Handle all complete frames. Returns how many bytes they are."""
        at, end = 0, len(view)
        try:
            while end - at >= _LENGTH and self.broken is None and not self._held_up:
                size = int.from_bytes(view[at : at + _LENGTH])
                if size > (self.frame_bytes_max if self.proven else HELLO_BYTES_MAX):
                    raise BadFrame(f"sent a frame of {size} bytes" if self.proven else "does not speak this protocol")
                if end - at - _LENGTH < size:
                    break
                self._frame(view[at + _LENGTH : at + _LENGTH + size])
                at += _LENGTH + size
        except BadFrame as error:
            self.fail(str(error))
        return at

    def _frame(self, frame: memoryview) -> None:
        if not self.proven:
            self._prove(frame)
            return
        try:
            message = self._decode(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self.misread(frame, error)
            return
        kind = type(message)
        if kind is Ping:
            self.send((PONG, 0))
        elif kind is not Pong:
            self.got(message)

    def _prove(self, frame: memoryview) -> None:
        """Handle Hello and Proof, each once and in this order."""
        try:
            message = decode_first(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise BadFrame("does not speak this protocol") from None
        if self._theirs is None:
            if type(message) is not Hello:
                raise BadFrame("did not say hello")
            self._greeted(message)
            return
        if type(message) is not Proof:
            raise BadFrame("said hello twice")
        side, mine, theirs = (b"owner", self._hello, self._theirs) if self.front else (b"front", self._theirs, self._hello)
        if not hmac.compare_digest(message.mac, self.identity.mac(side, mine, theirs)):
            raise BadFrame("does not know this cluster's secret")
        if not self.front:
            self.send((PROOF, 0, self.identity.mac(b"owner", self._theirs, self._hello)))
        self.proven = True
        self.peer = self._theirs.name
        if self._timer is not None:
            self._timer.cancel()
        self._beat_later()
        self.opened()

    def _greeted(self, hello: Hello) -> None:
        if hello.version != VERSION:
            raise BadFrame(f"speaks version {hello.version} of the servers' protocol, this server version {VERSION}")
        if len(hello.nonce) != NONCE_BYTES or not 0 < len(hello.name.encode()) <= NAME_CHARS_MAX:
            raise BadFrame("said hello with no name or nonce of use")
        self._theirs = hello
        if self.front:
            self.send((PROOF, 0, self.identity.mac(b"front", self._hello, hello)))
        else:
            self._say_hello()

    # Heartbeats.

    def _beat_later(self) -> None:
        self._timer = self.clock.call_at(self.clock.now() + HEARTBEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self._timer = None
        seen = self.bytes_in
        if not self.front and self._full:
            # It reads nothing now; that the other side still reads is the only sign of life.
            seen -= self.unwritten_bytes
        if seen != self._seen:
            self._seen, self._missed = seen, 0
        else:
            self._missed += 1
            if self._missed > HEARTBEATS_MISSED:
                self.fail(f"has sent nothing for {HEARTBEATS_MISSED * HEARTBEAT_SECONDS:g} s")
                return
            self.send((PING, 0))
        self._beat_later()
