"""The network between servers, and between them and the store: connections that delay, that are cut, and whose other end is gone.

Bytes keep their order. A cut loses nothing by itself: TCP sends again, so what was on its way arrives when the cut is over, unless one end
has given the connection up by then. A process that dies resets its connections; a machine that is off says nothing at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from .loop import passing
from .machines import NOWHERE, Machine, MachineLoop, here

FIN, RST = "fin", "rst"
STORE_PORT = 6379
Item = bytes | str


class Network:
    """All of it. delays: seconds that a piece may travel."""

    def __init__(self, loop: MachineLoop, seed: str, delays: tuple[float, ...]) -> None:
        self.loop = loop
        self.delays = delays
        self.cuts: dict[frozenset[str], int] = {}
        self.off: set[str] = set()
        """Hosts whose machine is off."""
        self.wires: list[Wire] = []
        self.past: list[Wire] = []
        """All that there ever were between servers."""
        self._seed = seed
        self._listeners: dict[tuple[str, int], tuple[Machine, Callable[[], Any]]] = {}
        self._joined: list[asyncio.Future[None]] = []
        self._made: dict[frozenset[str], int] = {}

    def is_cut(self, one: str, two: str) -> bool:
        """Whether nothing gets from one host to another."""
        return one != two and (frozenset((one, two)) in self.cuts or one in self.off or two in self.off)

    def cut(self, one: str, two: str) -> None:
        """Cut two hosts off each other, until as many joins."""
        pair = frozenset((one, two))
        self.cuts[pair] = self.cuts.get(pair, 0) + 1

    def join(self, one: str, two: str) -> None:
        """End a cut."""
        pair = frozenset((one, two))
        self.cuts[pair] -= 1
        if not self.cuts[pair]:
            del self.cuts[pair]
            self.again()

    def again(self) -> None:
        """Send again what was lost on its way."""
        joined, self._joined = self._joined, []
        for future in joined:
            if not future.done():
                future.set_result(None)
        self.wires = [wire for wire in self.wires if not wire.over]
        for wire in self.wires:
            wire.resend()

    def listen(self, factory: Callable[[], Any], port: int) -> Listener:
        """Listen at a port of the machine that asks."""
        machine = here()
        assert machine is not None
        self._listeners[machine.host, port] = machine, factory
        return Listener(self, machine.host, port)

    def close(self, host: str, port: int | None = None) -> None:
        """Listen no more at a host, or at one of its ports."""
        for key in [key for key in self._listeners if key[0] == host and port in (None, key[1])]:
            del self._listeners[key]

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        """See loop.create_connection. A connection that a cut swallows is tried for as long as the caller waits."""
        machine = here()
        assert machine is not None
        pair = frozenset((machine.host, host))
        serial = self._made[pair] = self._made.get(pair, 0) + 1
        random = Random(f"{self._seed} {machine.host} {host} {port} {serial}")
        while True:
            await passing(random.choice(self.delays))
            if not self.is_cut(machine.host, host):
                break
            future = self.loop.create_future()
            self._joined.append(future)
            await future
        listener = self._listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        wire = Wire(self, random, machine, listener[0], port)
        self.wires.append(wire)
        if port != STORE_PORT:
            self.past.append(wire)
        near, far = wire.ends
        near.protocol = factory()
        near.protocol.connection_made(near)
        far.accept(listener[1])
        return near, near.protocol


class _Name:
    def __init__(self, host: str, port: int) -> None:
        self._name = host, port

    def getsockname(self) -> tuple[str, int]:
        return self._name

    def fileno(self) -> int:
        return -1


class Listener:
    """What loop.create_server gives."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._network = network
        self._at = host, port
        self.sockets = [_Name(host, port)]

    def close(self) -> None:
        self._network.close(*self._at)


class Wire:
    """One connection. ends: of who connected, and of who listened. since_lost: when its first end was lost."""

    def __init__(self, network: Network, random: Random, one: Machine, two: Machine, port: int) -> None:
        self.network = network
        self.random = random
        self.port = port
        self.lost_at: float | None = None
        self.ends = End(self, one), End(self, two)
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(end.machine.host for end in self.ends)

    @property
    def over(self) -> bool:
        return all(end.lost for end in self.ends) and not any(end.coming for end in self.ends)

    def resend(self) -> None:
        for end in self.ends:
            end.resend()


class End(asyncio.Transport):
    """One end's transport."""

    def __init__(self, wire: Wire, machine: Machine) -> None:
        super().__init__()
        self.wire = wire
        self.machine = machine
        self.other: End
        self.protocol: Any = None
        self.lost = False
        self.coming: deque[Item] = deque()
        """On its way here."""
        self._stuck = 0
        """How many of these have been due while the way was cut."""
        self._due = 0.0
        self._inbox: deque[Item] = deque()
        self._paused = self._reading = self._closing = False

    # The kernel's side.

    def accept(self, factory: Callable[[], Any]) -> None:
        """Give the connection to the process that listens, when it runs."""

        def accepted() -> None:
            if self.machine.dead:
                self.lost = True
                self.send(RST)
                return
            self.protocol = factory()
            self.protocol.connection_made(self)
            self._soon()

        self.machine.when_running(lambda: self._call(accepted))

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        """Run something on the machine, in a turn of its own."""
        self.wire.network.loop.call_soon(callback, *args, context=self.machine.context)

    def send(self, item: Item) -> None:
        """Send to the other end."""
        self.other.comes(item)

    def comes(self, item: Item) -> None:
        """The other end has sent something."""
        network = self.wire.network
        self.coming.append(item)
        self._due = max(self._due, network.loop.time() + self.wire.random.choice(network.delays))
        network.loop.call_at(self._due, self._arrive, context=NOWHERE)

    def _arrive(self) -> None:
        if self._stuck or self.wire.network.is_cut(self.machine.host, self.other.machine.host):
            self._stuck += 1
            return
        item = self.coming.popleft()
        if self.lost or self.machine.dead:
            if item is not RST and self.machine.host not in self.wire.network.off:
                self.send(RST)
            return
        self._inbox.append(item)
        self.machine.when_running(self._soon)

    def resend(self) -> None:
        """What was lost on its way comes again, if the way is open."""
        if self._stuck and not self.wire.network.is_cut(self.machine.host, self.other.machine.host):
            stuck, self._stuck = self._stuck, 0
            for _ in range(stuck):
                self._arrive()

    def _soon(self) -> None:
        if self.protocol is not None and self._inbox and not (self._reading or self._paused):
            self._reading = True
            self._call(self._read)

    def _read(self) -> None:
        self._reading = False
        if self.machine.stopped:
            self.machine.when_running(self._soon)
            return
        if self.lost or self._closing or self._paused or self.machine.dead or not self._inbox:
            return
        item = self._inbox.popleft()
        if item == RST:
            self._end(ConnectionResetError(104, "Connection reset by peer"))
        elif item == FIN:
            if not self.protocol.eof_received():
                self.close()
        else:
            parts = [item]
            while self._inbox and isinstance(self._inbox[0], bytes):
                parts.append(self._inbox.popleft())
            self.protocol.data_received(b"".join(parts))  # type: ignore[arg-type]
        self._soon()

    def _end(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = self._closing = True
        if self.wire.lost_at is None:
            self.wire.lost_at = self.wire.network.loop.time()
        if not self.machine.dead and self.protocol is not None:
            self.protocol.connection_lost(error)

    def die(self) -> None:
        """The process is gone."""
        if not self.lost:
            self.lost = self._closing = True
            if self.wire.lost_at is None:
                self.wire.lost_at = self.wire.network.loop.time()
            if self.machine.host not in self.wire.network.off:
                self.send(RST)

    # asyncio.Transport.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.other.machine.host, self.wire.port) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        if not (self._closing or self.machine.dead) and data:
            self.send(bytes(data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.send(FIN)
            self._call(self._end, None)

    def abort(self) -> None:
        if not self.lost and not (self._closing and not self._inbox):
            self.send(RST)
        self._closing = True
        self._call(self._end, None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._soon()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""
