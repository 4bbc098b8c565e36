"""A process that holds thousands of dequeues, so that the server's process needs file descriptors for its own side alone.

Run as `python herd.py PORT QUEUE COUNT WAIT`. It prints `standing` once every request is sent, then, per status, how many answers came.
"""

from __future__ import annotations

import collections
import resource
import socket
import sys


def _main(port: int, queue: str, count: int, wait: float) -> None:
    body = b'{"queue":"%s","wait":%g}' % (queue.encode(), wait)
    poll = b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(poll)
        clients.append(client)
    print("standing", flush=True)
    # Nobody's answer depends on another's being read, and each fits into its socket's buffer.
    statuses = collections.Counter(int(client.recv(4_096).split(b" ")[1]) for client in clients)
    print(dict(statuses), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
