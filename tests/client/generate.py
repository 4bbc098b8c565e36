"""Makes `Client` from `AsyncClient`: `python -m tests.client.generate`. tests/client/test_alike.py holds that the two are in step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "jobqueue/client"
_FILES = ("client", "batches", "queues", "schedules", "groups", "bulk", "logs", "server", "workers")
PAIRS = {FOLDER / f"async_{name}.py": FOLDER / f"sync_{name}.py" for name in _FILES}
"""What each file for asyncio becomes."""

WORDS = (
    (r"import AsyncIterator, Iterable, Mapping\b", "import Iterable, Iterator, Mapping"),
    (r"import AsyncIterator, Iterable\b", "import Iterable, Iterator"),
    (r"for job in page\.jobs:\n +yield job\n", "yield from page.jobs\n"),
    (r"for line in page\.lines:\n +yield line\n", "yield from page.lines\n"),
    (r"import AsyncIterator, (Mapping, )?Sequence\b", r"import Iterator, \1Sequence"),
    (r"\basync def\b", "def"),
    (r"\basync (for|with)\b(?!`)", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bAsyncIterator\b(?=[\[,\n])", "Iterator"),
    (r"\bAsyncTransport\b", "SyncTransport"),
    (r"\basync_transport\b", "sync_transport"),
    (r"\bclass AsyncClient\b", "class Client"),
    (r"\bAsync(Batches|Bulk|Groups?|Logs|Queues|Schedules|Server|Workers)\b", r"Sync\1"),
    (r"\basync_(batches|bulk|groups|logs|queues|schedules|server|workers)\b(?!\.py)", r"sync_\1"),
)
"""What is another word in a program with threads. `async for` and the like stay where they are quoted in docstrings."""

TEXTS = (
    (
        '''"""What the clients can do with many jobs in one request, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_batches.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do in batches. Made from `async_batches.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with workers, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_workers.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with workers. Made from `async_workers.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with jobs' logs, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_logs.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with jobs' logs. Made from `async_logs.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can ask a server about itself, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_server.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can ask a server. Made from `async_server.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with queues, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_queues.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with queues. Made from `async_queues.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with schedules, for asyncio: `client.schedules`.

`sync_schedules.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with schedules. Made from `async_schedules.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with groups, for asyncio: `client.groups` and `client.group`.

`sync_groups.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with groups. Made from `async_groups.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""What the clients can do with many jobs at once, and with tasks, for asyncio.

`sync_bulk.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with many jobs. Made from `async_bulk.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""The client for asyncio, with all that both clients can do: each operation, what it takes, sends, answers and raises.

`sync_client.py` is made from this file by `python -m tests.client.generate`. The rest is in
async_queues.py, async_batches.py, async_logs.py and async_server.py.
"""
''',
        '''"""The client for threads. Made from `async_client.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''    """A client of one server, or of several servers on one store, for asyncio. `Client` is the same for threads.
''',
        '''    """A client of one server, or of several servers on one store, for threads. `AsyncClient` is the same for asyncio.
''',
    ),
    (
        """Use it in one event loop, and close it there:
    `async with AsyncClient() as client: …`. Any number of tasks can share a client: each waiting call has its own connection, without a
    limit. A cancelled call may still have had its effect. The jobs that a cancelled dequeue was about to return are released in the
    background; `close` waits for that, 5 seconds at most.
""",
        """Any number of threads can share a client: each
    waiting call has its own connection. After a fork, both processes can use it. Close it at the end: `with Client() as client: …`. If a
    signal interrupts a dequeue, the jobs that it was about to return are released, in a thread.
""",
    ),
    (
        """        async with AsyncClient("http://127.0.0.1:8080") as client:
            made =""",
        """        with Client("http://127.0.0.1:8080") as client:
            made =""",
    ),
)
"""What is true of one client alone."""


def synchronous(text: str) -> str:
    """The source of a file for threads, but for its layout."""
    for of_one, of_other in TEXTS:
        text = text.replace(of_one, of_other)
    for of_one, of_other in WORDS:
        text = re.sub(of_one, of_other, text)
    return text


def check(texts: list[str]) -> None:
    """Raise ValueError where a text of TEXTS is no longer there: no sentence about tasks is to stand at the client for threads."""
    for of_one, _ in TEXTS:
        if sum(text.count(of_one) for text in texts) != 1:
            raise ValueError(f"not there once: {of_one}")


def main() -> None:
    """Write them, laid out as ruff does."""
    check([source.read_text(encoding="utf-8") for source in PAIRS])
    for source, made in PAIRS.items():
        made.write_text(synchronous(source.read_text(encoding="utf-8")), encoding="utf-8")
        for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
            subprocess.run([sys.executable, "-m", "ruff", *command, str(made)], check=True)


if __name__ == "__main__":
    main()
