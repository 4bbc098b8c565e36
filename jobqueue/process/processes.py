"""Several server processes on one port: `jobqueue serve --processes N --store URL`. See docs/decisions/0040.

The parent process starts the others and serves nothing itself. It makes a listening socket for each of them, which stays open when that
process dies: clients that connect meanwhile wait for its replacement, and none is refused. On Linux the kernel spreads connections evenly
over such sockets; on other systems the processes share one.

A process receives instructions through a pipe, not by signals: systemd and others send a signal to all processes of a group, and a second
signal would mean to hurry. The end of the pipe means to stop, so no process outlives the parent. They run in sessions of their own, so that
only the parent receives Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobqueue.process import logs
from jobqueue.process.settings import Settings

_logger = logging.getLogger("jobqueue.process.processes")

BACKLOG = 1_024
"""Connections that the kernel queues for each process until they are accepted."""

STOP, HURRY, RELOAD = b"s", b"h", b"r"
"""Instructions to a process."""

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 30.0
"""The pause before a process that died is started again: the first, and the longest."""

STEADY_SECONDS = 60.0
"""After a process has run this long, the pause starts at the first value again."""

KILL_SECONDS = 15.0
"""How long a process can take to end, in addition to the drain, before it is killed."""

FOLDER_BYTES_MAX = 80
"""The longest path of the folder in which the processes reach each other: systems allow 104 bytes or more for a socket's path."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one of the processes is started with. number: from 1; of: how many there are; sockets: descriptors to listen on; folder: where
    they reach each other.
    """

    number: int
    of: int
    sockets: list[int]
    folder: str
    settings: Settings


def settings_of(settings: Settings, number: int) -> Settings:
    """The settings of one of the processes: each has its own port for other servers, numbered upwards from the first."""
    port, address = settings.peer_port, settings.peer_address
    if port:
        port += number - 1
        if address is not None:
            host, _, given = address.rpartition(":")
            address = f"{host}:{int(given) + number - 1}"
    return msgspec.structs.replace(settings, processes=1, peer_port=port, peer_address=address)


def listeners(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Listening sockets for this many processes, one for each address of the host. Raises OSError, also if another process listens
    already.
    """
    shared = sys.platform != "linux"
    found: list[list[socket.socket]] = [[] for _ in range(count)]
    both = host == "::" and socket.has_dualstack_ipv6()
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address in dict.fromkeys(infos):
        place: tuple[str, int] = (str(address[0]), port)
        if port and not shared:
            # Sockets with a shared port would admit other processes of the same user too, such as a second start of this server.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
                alone.bind(place)
        for sockets in found:
            if shared and sockets is not found[0]:
                sockets.append(found[0][-1])
                continue
            made = socket.create_server(
                place, family=family, backlog=BACKLOG, reuse_port=not shared, dualstack_ipv6=both and family == socket.AF_INET6
            )
            # If the system chose the port of the first socket, all use that port.
            place = (place[0], made.getsockname()[1])
            port = place[1]
            sockets.append(made)
    return found


def _python() -> list[str]:
    """The command that runs Python as it runs here: the current folder is on the module path of the processes only if it is here."""
    try:
        here = str(Path.cwd())
    except OSError:  # the folder was deleted
        here = ""
    return [sys.executable] if {"", here} & set(sys.path) else [sys.executable, "-P"]


class _Process:
    """One of the processes, started again whenever it dies."""

    def __init__(self, number: int, part: bytes, sockets: Sequence[socket.socket]) -> None:
        self.number = number
        self.ready = asyncio.Event()
        """Set when it listens, or when waiting for that has become pointless."""
        self.ended: int | None = None
        """Its exit code, once it has ended for good."""
        self._part = part
        self._sockets = sockets
        self._running: asyncio.subprocess.Process | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep it running until it is told to stop, or until it ends before it was ever ready."""
        pause = PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            code = await self._once(stopping)
            if stopping.is_set() or not self.ready.is_set():
                if code < 0 and not stopping.is_set():
                    # For any other end it has logged the reason itself.
                    _logger.error("process %d ended with exit code %d before it served", self.number, code)
                self.ended = code
                self.ready.set()
                return
            if loop.time() - started >= STEADY_SECONDS:
                pause = PAUSE_SECONDS
            _logger.error("process %d ended with exit code %d; starting another one in %g s", self.number, code, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()
            if stopping.is_set():
                # Its death has been logged, and nothing has waited for it since.
                self.ended = 0
                return
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _once(self, stopping: asyncio.Event) -> int:
        """Run it until it ends; returns its exit code."""
        if stopping.is_set():
            return 0
        try:
            self._running = process = await asyncio.create_subprocess_exec(
                *_python(),
                "-m",
                "jobqueue.process.part",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=[sock.fileno() for sock in self._sockets],
                start_new_session=True,
            )
        except OSError as error:
            _logger.error("process %d cannot be started: %s", self.number, error.strerror or error)
            return 1
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(len(self._part).to_bytes(4) + self._part)
        if stopping.is_set():
            # It may have been told to stop while it was being started.
            process.stdin.write(STOP)
        try:
            while await process.stdout.readline():
                self.ready.set()
            return await process.wait()
        finally:
            self._running = None

    def tell(self, what: bytes) -> None:
        """Send it an instruction, if it runs."""
        if self._running is not None and self._running.stdin is not None:
            with contextlib.suppress(OSError):
                self._running.stdin.write(what)

    def kill(self) -> None:
        """Kill it at once."""
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                self._running.kill()


class _Supervisor:
    def __init__(self, settings: Settings, processes: Sequence[_Process], sockets: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._processes = processes
        self._sockets = sockets
        self._stopping = asyncio.Event()
        self._signals = 0

    async def run(self) -> int:
        """Run all processes until a signal; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._tell, RELOAD)
        # Start the first one alone: what fails there fails in all of them, and one error message is enough.
        first, *others = self._processes
        tasks = [asyncio.create_task(first.run(self._stopping))]
        await first.ready.wait()
        if first.ended is None and not self._stopping.is_set():
            tasks += [asyncio.create_task(process.run(self._stopping)) for process in others]
            for process in others:
                await process.ready.wait()
        failed = [process for process in self._processes if process.ended is not None]
        if not failed and not self._stopping.is_set():
            self._say()
            await self._stopping.wait()
        else:
            self._stop()
        await self._end(tasks)
        if failed and not self._signals:
            return max(failed[0].ended or 0, 1)
        return 1 if any(process.ended for process in self._processes) else 0

    def _say(self) -> None:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        scheme = "http" if self._settings.tls_cert is None else "https"
        print(f"jobqueue serves {scheme}://{host}:{self._sockets[0].getsockname()[1]}", flush=True)
        _logger.info("%d processes", len(self._processes))

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop()
        elif self._signals == 2:
            self._tell(HURRY)
        else:
            for process in self._processes:
                process.kill()

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            # No new connections: clients that connect from now on are refused once the processes have closed their sockets too.
            for sock in self._sockets:
                sock.close()
            self._tell(STOP)
            # A process that is not ready yet gets as much time to end as all others.
            for process in self._processes:
                process.ready.set()

    def _tell(self, what: bytes) -> None:
        for process in self._processes:
            process.tell(what)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        _, left = await asyncio.wait(tasks, timeout=self._settings.drain_seconds + KILL_SECONDS)
        if left:
            _logger.error("%d processes do not end, and are killed", len(left))
            for process in self._processes:
                process.kill()
            await asyncio.wait(left)


def run(settings: Settings) -> int:
    """Serve with several processes until SIGTERM or SIGINT; returns the exit code."""
    logs.set_up(settings.log_level, settings.log_format)
    try:
        sockets = listeners(settings.host, settings.port, settings.processes)
    except OSError as error:
        logs.say(f"jobqueue: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}")
        return 1
    try:
        made = tempfile.TemporaryDirectory(prefix="jobqueue-")
    except OSError as error:
        logs.say(f"jobqueue: cannot make a folder in which the processes reach each other: {error.strerror or error}")
        return 1
    with made as folder:
        if len(os.fsencode(folder)) > FOLDER_BYTES_MAX:
            logs.say(f"jobqueue: {folder}: too long a name for sockets in this folder; set TMPDIR to another one")
            return 1

        async def serve() -> int:
            processes = []
            for number, own in enumerate(sockets, 1):
                part = Part(number, len(sockets), [sock.fileno() for sock in own], folder, settings_of(settings, number))
                processes.append(_Process(number, msgspec.msgpack.encode(part), own))
            return await _Supervisor(settings, processes, [sock for own in sockets for sock in own]).run()

        return asyncio.run(serve())
