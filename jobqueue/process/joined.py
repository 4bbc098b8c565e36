"""One of several server processes on one port: it receives instructions, and the processes exchange their metrics.

Each process listens on a socket in a shared folder and sends its own metrics to the process that was asked for metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from jobqueue.process.processes import HURRY, RELOAD, STOP, Part
from jobqueue.worker.shutdown import Signals

ANSWER_SECONDS = 1.0
"""Time for another process to send its metrics. One that does not respond is left out."""


class Joined:
    """This process as one of several."""

    def __init__(self, part: Part, descriptor: int = 0) -> None:
        self._part = part
        self._descriptor = descriptor

    def sockets(self) -> list[socket.socket]:
        """The sockets to listen on."""
        return [socket.socket(fileno=number) for number in self._part.sockets]

    def obey(self, signals: Signals, reload: Callable[[], None]) -> None:
        """Follow instructions from now on."""
        loop = asyncio.get_running_loop()

        def told() -> None:
            said = os.read(self._descriptor, 64)
            if not said:
                loop.remove_reader(self._descriptor)
            if not said or STOP in said:
                signals.stop_soon()
            if HURRY in said:
                signals.hurry_soon()
            if RELOAD in said:
                reload()

        loop.add_reader(self._descriptor, told)

    def listens(self) -> None:
        """Report that this process listens."""
        print("listens", flush=True)

    @contextlib.asynccontextmanager
    async def telling(self, own: Callable[[], bytes]) -> AsyncIterator[None]:
        """Send this process's metrics to the others that ask, while the context lasts."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = own()
            with contextlib.suppress(OSError):
                writer.write(len(said).to_bytes(4) + said)
                await writer.drain()
            writer.close()

        path = self._path(self._part.number)
        # Left by a process that died here before.
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return Path(self._part.folder, f"{number}.sock")

    async def siblings(self) -> list[bytes]:
        """The metrics of the other processes, without those that do not answer in time."""
        others = [number for number in range(1, self._part.of + 1) if number != self._part.number]
        found = await asyncio.gather(*(self._asked(number) for number in others))
        return [each for each in found if each]

    async def _asked(self, number: int) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                finally:
                    writer.close()
        except (OSError, EOFError):  # TimeoutError is an OSError; EOFError: the other process ended during its answer
            return b""
