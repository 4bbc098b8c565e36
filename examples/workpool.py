"""Compute the SHA-256 of every file in a folder, on a server that has its own pool of workers.

    python examples/workpool.py [FOLDER]

This file has two uses. As the module of `jobqueue serve --pool workpool` it is the pool: one handler, which reads a file and returns
its checksum. As a program it is a client of the workpool dialect: it starts that server, submits one job per file, waits for the results,
and compares each result with its own checksum. Without FOLDER it uses the package's own sources. The exit code is 0 only if all agree.

With `--url` it uses a server that is already running, with the token in JOBQUEUE_TOKEN if that is set. That server must see the same files.
Note that a job here can name any file that the server can read: a real pool should accept only files in certain folders.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jobqueue

NAME = "checksum"
WAIT_SECONDS = 20
"""How long the server holds a request for a result before it answers that there is none yet."""
IN_FLIGHT = 500
"""Jobs submitted whose results are not read yet: far fewer than the server's history can hold."""


def checksum_of(path: str) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# The pool.


@jobqueue.handler(NAME, timeout=300)
def checksum(path: str) -> str:
    """Handle one job: its body is the path, the return value is the result. A plain function, so it runs in a thread."""
    try:
        return checksum_of(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        # Another attempt would not help. After any other error the job is tried again.
        raise jobqueue.Discard from error


# The client.


class WentWrong(Exception):
    """An error that a repeat will not fix. str() is a message for people."""


class Workpool:
    """The three calls of a workpool server, over one connection. prefix: the path at which it is mounted on the server."""

    def __init__(self, url: str, prefix: str = "/workpool") -> None:
        place = urlsplit(url)
        if place.scheme != "http" or not place.hostname:
            raise WentWrong(f"{url} is not the URL of a server, as http://127.0.0.1:8080")
        self._connection = HTTPConnection(place.hostname, place.port, timeout=WAIT_SECONDS + 10)
        self._prefix = prefix
        token = os.environ.get("JOBQUEUE_TOKEN")
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        try:
            data = None if body is None else json.dumps(body)
            self._connection.request(method, self._prefix + path, data, self._headers)
            with self._connection.getresponse() as response:
                return response.status, json.load(response)
        except (OSError, HTTPException, ValueError) as error:
            raise WentWrong(f"{method} {path}: {error or type(error).__name__}") from error

    def submit(self, name: str, body: Any) -> str:
        """Submit a job and return its id."""
        status, answer = self._call("POST", "/job", {"name": name, "body": body})
        if status != 201:
            raise WentWrong(f"the job {name} for {body} was answered {status}: {answer.get('message', answer)}")
        return str(answer["createdJob"]["id"])

    def result(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended, and return its `status`, and `result` or `error`."""
        while True:
            status, answer = self._call("GET", f"/result/{quote(job_id, safe='')}?wait={WAIT_SECONDS}")
            if status == 200:
                return dict(answer)
            if status != 202:
                raise WentWrong(f"the result of {job_id} was answered {status}: {answer.get('message', answer)}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def files_of(folder: Path) -> list[str]:
    """Return every file below a folder, except files that Python writes there, and names that JSON cannot hold, which it prints."""
    found = sorted(str(path) for path in folder.resolve().rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    sendable = [path for path in found if path.encode("utf-8", "replace").decode() == path]
    for path in set(found).difference(sendable):
        print(f"{path!r}: left out, its name is not UTF-8")
    return sendable


def compare(pool: Workpool, paths: Sequence[str]) -> Counter[str]:
    """Have every file's checksum computed, and compare. Return how many agree, differ and failed."""
    counts: Counter[str] = Counter(agree=0, differ=0, failed=0)
    for start in range(0, len(paths), IN_FLIGHT):
        jobs = [(path, pool.submit(NAME, path)) for path in paths[start : start + IN_FLIGHT]]
        for path, job_id in jobs:
            end = pool.result(job_id)
            if end["status"] != "done":
                counts["failed"] += 1
                print(f"{path}: failed: {json.dumps(end['error'])}")
            elif end["result"] != checksum_of(path):
                counts["differ"] += 1
                print(f"{path}: the pool says {end['result']}")
            else:
                counts["agree"] += 1
    return counts


# The main program.


@contextlib.contextmanager
def own_server(size: int) -> Iterator[str]:
    """Run a server on a free port whose pool is this file, as long as the context lasts. Yields its URL."""
    pool = ["--pool", Path(__file__).stem, "--pool-size", str(size)]
    command = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning", *pool]
    # Python finds the pool's module in the usual places.
    places = [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        # The server's first line of output has its address.
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1]
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> int:
    """Run the example and return the exit code."""
    parser = argparse.ArgumentParser(description="Compute the SHA-256 of every file of a folder with a pool of workers.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1] / "jobqueue", metavar="FOLDER")
    parser.add_argument("--url", help="a running server whose pool has this file's handler (default: start one)")
    parser.add_argument("--pool-size", type=int, default=4, help="jobs the server's pool runs at once (default: 4)")
    options = parser.parse_args()
    started = time.perf_counter()
    try:
        paths = files_of(options.folder)
        if not paths:
            raise WentWrong(f"{options.folder} has no files")
        with (
            contextlib.nullcontext(options.url) if options.url else own_server(options.pool_size) as url,
            contextlib.closing(Workpool(url)) as pool,
        ):
            counts = compare(pool, paths)
    except (WentWrong, OSError) as error:
        print(f"workpool: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    print(f"{len(paths):,} files in {time.perf_counter() - started:.2f} s: {told}")
    return 0 if counts["agree"] == len(paths) else 1


if __name__ == "__main__":
    sys.exit(main())
