"""A network in memory: connections between clients and the server's real protocol objects, with all the ways in which they break.

Each direction of a connection keeps its bytes in order and delays them. The server's end is a transport that behaves as asyncio's own on
a socket does: what has arrived lies in the "kernel" until the loop reads it a turn or more later, a write is attempted at once and what
the kernel has no room for is buffered, a FIN or RST can be seen by poll(2) before the loop has read it (`Poll`).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from tests.messages import Reader, Reply

from .loop import VirtualLoop
from .machines import NOWHERE, Machine

VANISHED_SECONDS = 5.0

FIN = "fin"
RST = "rst"
Item = bytes | str


class Poll:
    """Stands in for the server's select.poll(): what the kernel knows of the connection behind a descriptor."""

    def __init__(self) -> None:
        self.ends: dict[int, ServerEnd] = {}
        self._asked = -1

    def register(self, fd: int, mask: int) -> None:
        self._asked = fd

    def poll(self, timeout: int) -> list[tuple[int, int]]:
        end = self.ends[self._asked]
        if not end.hung_up:
            return []
        # The server then writes nothing more.
        end.wrote_to_the_gone = True
        return [(self._asked, 1)]

    def unregister(self, fd: int) -> None:
        self._asked = -1

    def unacknowledged(self, fd: int) -> bool:
        """In the place of the server's own: whether all that the client has sent up to now says that it has had less than was written."""
        end = self.ends[fd]
        end.crossed = end.acknowledged < end.written
        return end.crossed


class _Socket:
    family = socket.AF_UNIX

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def setsockopt(self, *_: int) -> None:
        """There is nothing to tune."""


class Link:
    """One connection to the server of one life.

    delays: seconds a piece may travel, drawn anew for each; room: bytes the server's kernel buffers for sending. machine: the server's,
    where there are several.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        random: Random,
        fd: int,
        delays: tuple[float, ...],
        room: int,
        life: int,
        machine: Machine | None = None,
    ) -> None:
        self.loop = loop
        self.machine = machine
        self.fd = fd
        self.life = life
        self._random = random
        self._delays = delays
        self._due = {"up": 0.0, "down": 0.0}
        self._travelling: dict[str, deque[tuple[Item, int]]] = {"up": deque(), "down": deque()}
        """What is on its way, and how much its sender had received when it was sent."""
        self.cut = False
        """The cable is pulled: nothing travels any more, and nobody is told."""
        self.client = ClientEnd(self)
        self.server = ServerEnd(self, room)

    def turns(self) -> int:
        """Turns of the loop by which it comes to read this connection later than others that something came for in the same instant."""
        return self._random.choice((0, 0, 0, 1, 2, 3))

    @property
    def next_arrival(self) -> float:
        """When what was sent last reaches the server."""
        return self._due["up"]

    def travel(self, way: str, item: Item) -> None:
        """Send something up (to the server) or down (to the client)."""
        due = max(self._due[way], self.loop.time() + self._random.choice(self._delays))
        self._due[way] = due
        # Timers of one instant run in no particular order, so the timer does not say what has arrived: it is the first that was sent.
        self._travelling[way].append((item, self.client.had if way == "up" else 0))
        self.loop.call_at(due, self._arrive, way, context=NOWHERE)

    def _arrive(self, way: str) -> None:
        item, had = self._travelling[way].popleft()
        if self.cut:
            return
        if way == "up":
            self.server.acknowledged = max(self.server.acknowledged, had)
            self.server.arrive(item)
        else:
            self.client.arrive(item)


class ServerEnd(asyncio.Transport):
    """The server's transport."""

    def __init__(self, link: Link, room: int) -> None:
        super().__init__({"socket": _Socket(link.fd), "peername": None, "sockname": None, "sslcontext": None})
        self._link = link
        self._loop = link.loop
        self.room = room
        self.protocol: Any = None
        self.dead = False
        """The server's process has died: its protocol hears of nothing any more."""
        self._inbox: deque[bytes] = deque()
        self._fin = self._rst = False
        self._paused = self._reading = False
        self._closing = self._lost = False
        self._unsent = bytearray()
        self._held_back = False
        self.written = self.acknowledged = 0
        """Bytes that the server has written, and those of them that the client is known to have received."""
        self.crossed = False
        """The server was told that an answer had not come to the client when that closed."""
        self.wrote_to_the_gone = False
        """When the last write was made, or was to be made, the kernel already knew that the client had hung up."""
        self.cut_short = False
        """The client hung up, or the connection broke, with a part of an answer unsent: the server may see it either way."""

    @property
    def hung_up(self) -> bool:
        """Whether a FIN or RST of the client's has arrived."""
        return self._fin or self._rst

    @property
    def unsent(self) -> int:
        """Bytes of answers that the kernel has not taken yet."""
        return len(self._unsent)

    # The kernel's side.

    def arrive(self, item: Item) -> None:
        """Something came from the client."""
        if self._lost:
            if item is not RST:
                self._link.travel("down", RST)
            return
        if isinstance(item, bytes):
            self._inbox.append(item)
            self._soon()
            return
        self.cut_short = self.cut_short or bool(self._unsent)
        if item == FIN:
            self._fin = True
        else:
            self._rst = True
        self._soon()

    def taken(self, count: int) -> None:
        """The client has read this many bytes."""
        self.room += count
        if self._unsent and not self._lost:
            self._call(self._flush)

    def _soon(self) -> None:
        if self.protocol is not None and not (self._reading or self._paused or self._closing) and (self._inbox or self._fin or self._rst):
            self._reading = True
            self._call(self._read, self._link.turns())

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        """Run something in the server's process, when that does not stand still."""
        machine = self._link.machine
        if machine is None:
            self._loop.call_soon(callback, *args)
        else:
            machine.when_running(lambda: self._loop.call_soon(callback, *args, context=machine.context))

    def _read(self, turns: int) -> None:
        if turns or (self._link.machine is not None and self._link.machine.stopped):
            self._call(self._read, max(0, turns - 1))
            return
        self._reading = False
        if self._paused or self._closing or self.dead:
            return
        if self._rst:
            self._break(ConnectionResetError("the client reset the connection"))
        elif self._inbox:
            data = b"".join(self._inbox)
            self._inbox.clear()
            self.protocol.data_received(data)
            self._soon()
        elif self._fin and not self.protocol.eof_received():
            self.close()

    def _flush(self) -> None:
        if self._lost or self.dead:
            return
        if self._rst:
            self._break(ConnectionResetError("the client reset the connection"))
            return
        taken, self._unsent = self._unsent[: self.room], self._unsent[self.room :]
        if taken:
            self.room -= len(taken)
            self._link.travel("down", bytes(taken))
        if self._unsent:
            if not self._held_back:
                self._held_back = True
                self.protocol.pause_writing()
        else:
            if self._held_back:
                self._held_back = False
                self.protocol.resume_writing()
            if self._closing:
                self._call(self._end, None)

    def _break(self, error: BaseException | None) -> None:
        self.cut_short = self.cut_short or bool(self._unsent)
        self._unsent.clear()
        if not self._closing:
            self._closing = True
        self._call(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._link.travel("down", RST if self._inbox or self._rst else FIN)
        if not self.dead:
            self.protocol.connection_lost(error)

    def die(self) -> None:
        """The process is gone: the kernel resets the connection. The protocol's tasks are told, so that they end, but nothing is sent."""
        if not self.dead:
            self.dead = True
            self._unsent.clear()
            if not self._lost:
                self._lost = self._closing = True
                if self._link.cut:
                    # The whole machine is off: nobody is told.
                    self._link.client.vanished()
                self._link.travel("down", RST)
                if self._link.machine is None:
                    self.protocol.connection_lost(None)
                elif self.protocol is not None:
                    self._link.machine.context.run(self.protocol.connection_lost, None)

    def accepted(self) -> None:
        """The server's process has it; what came before is read now."""
        self._soon()

    def refuse(self) -> None:
        """Nobody listens any more."""
        self.dead = self._lost = self._closing = True
        self._link.travel("down", RST)

    def vanish(self) -> None:
        """The machine is off."""
        self._link.cut = True
        self.die()

    # asyncio.Transport.

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        if self._closing or self.dead:
            return
        self.wrote_to_the_gone = self.hung_up
        self.written += len(data)
        self._unsent += data
        if not self._held_back:
            self._flush()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._unsent:
                self._call(self._end, None)

    def abort(self) -> None:
        self._break(None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._soon()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "this transport knows only the limit that the server sets"


class ClientEnd:
    """A client's socket: bytes out, answers in, and several ways to leave."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.received = Reader()
        self._unread = 0
        self.had = 0
        """Bytes that came, read or not."""
        self._more: asyncio.Future[None] | None = None
        self.open = True
        """Neither end has closed."""
        self.closed = self.half_closed = False
        self.slow = False
        """Reads nothing for now."""

    def arrive(self, item: Item) -> None:
        """Something came from the server."""
        if self.closed:
            if isinstance(item, bytes):
                self._link.travel("up", RST)
            return
        if not isinstance(item, bytes):
            self.open = False
        else:
            self.had += len(item)
            self.received.feed(item)
            self._unread += len(item)
            if not self.slow:
                self.read_on()
        self._wake()

    def read_on(self) -> None:
        """Read what has come, and go on reading."""
        self.slow = False
        count, self._unread = self._unread, 0
        if count and not self._link.cut:
            self._link.server.taken(count)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._link.travel("up", data)

    async def reply(self) -> Reply:
        """The next answer. Raises ConnectionError."""
        while (reply := self.received.reply()) is None:
            await self._wait()
        return reply

    async def _wait(self) -> None:
        if not self.open or self.closed:
            raise ConnectionResetError("the connection is closed")
        self._more = self._link.loop.create_future()
        await self._more

    def leave_at_once(self, how: str) -> None:
        """Be gone, by fin or rst, and the server's kernel knows it in this very instant."""
        if not self.closed and not self._link.cut:
            self.closed, self.open = True, False
            self._link.server.acknowledged = self.had
            self._link.server.arrive(how)
            self._wake()

    def leave(self, how: str) -> None:
        """fin: close; rst: reset; half: close the sending side only; vanish: be gone without a word."""
        if self.closed:
            return
        if how == "half":
            self.half_closed = True
            self._link.travel("up", FIN)
            return
        self.closed = True
        self.open = False
        if how == "vanish":
            self._link.cut = True
        else:
            self._link.travel("up", RST if how == "rst" else FIN)
        self._wake()

    def vanished(self) -> None:
        """Its server's machine is off, which its own keep-alive finds out some time later."""
        self._link.loop.call_later(VANISHED_SECONDS, self._given_up, context=NOWHERE)

    def _given_up(self) -> None:
        self.open = False
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
