"""Many held requests, in a process of their own that can be killed as a whole.

    python -m bench.crowd PORT COUNT PATH SECONDS [together]

opens COUNT connections and sends on each a POST to PATH that asks to be held for SECONDS. With "together" the waits are shortened
one by one so that all end SECONDS after the first was sent. Prints {"ready": COUNT, "end": monotonic time}; then, once a line comes
on its standard input, reads every answer and prints {"answers": {status: how many}}.

Plain blocking sockets, one write each: nothing here has to be quick, only small. Every few requests it makes sure by a round trip
that the server keeps up, so that no wait starts later than its sender thinks.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Any

from bench.wire import Blocking, request

QUEUE = "crowd"
ABREAST = 16
"""Requests sent between two round trips, about 2 ms of the server's time."""
HEALTHZ = request("GET", "/healthz")


def body(seconds: float) -> dict[str, Any]:
    """What both servers understand; the bare one reads only `wait`."""
    return {"queue": QUEUE, "wait": round(seconds, 4)}


def main() -> None:
    """See above."""
    port, count, path, seconds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    together = "together" in sys.argv[5:]
    pulse = Blocking(port)
    connections = []
    for number in range(count):
        connections.append(Blocking(port))
        if number % ABREAST == 0:
            pulse.ask(HEALTHZ, 200)
    end = time.monotonic() + seconds
    for number, connection in enumerate(connections):
        connection.send(request("POST", path, body(end - time.monotonic() if together else seconds)))
        if number % ABREAST == 0:
            pulse.ask(HEALTHZ, 200)
    pulse.ask(HEALTHZ, 200)
    print(json.dumps({"ready": count, "end": end}), flush=True)
    if not sys.stdin.readline():
        return
    print(json.dumps({"answers": Counter(connection.receive().status for connection in connections)}), flush=True)


if __name__ == "__main__":
    main()
