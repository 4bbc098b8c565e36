"""One of several server processes on one port: `python -m jobqueue.process.part`, started by processes.py.

Standard input carries its description, then instructions; the end of the input means to stop. It writes one line to standard output once it
listens.
"""

from __future__ import annotations

import os
import sys

import msgspec

from jobqueue.process.joined import Joined
from jobqueue.process.processes import Part
from jobqueue.process.server import run


def read_part(descriptor: int) -> Part:
    """The description of this process. Raises EOFError, msgspec.DecodeError."""
    length = int.from_bytes(_exactly(descriptor, 4))
    return msgspec.msgpack.decode(_exactly(descriptor, length), type=Part)


def _exactly(descriptor: int, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = os.read(descriptor, count - len(found))
        if not chunk:
            raise EOFError("standard input ended")
        found += chunk
    return found


def main() -> None:
    """Run one of the processes."""
    part = read_part(0)
    sys.exit(run(part.settings, Joined(part)))


if __name__ == "__main__":
    main()
