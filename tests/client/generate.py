"""Makes `Client` from `AsyncClient`: `python -m tests.client.generate`. tests/client/test_alike.py holds that the two are in step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "jobqueue/client"
PAIRS = {FOLDER / f"async_{name}.py": FOLDER / f"sync_{name}.py" for name in ("client", "queues")}
"""What each file for asyncio becomes."""

WORDS = (
    (r"import AsyncIterator, Iterable\b", "import Iterable, Iterator"),
    (r"for job in page\.jobs:\n +yield job\n", "yield from page.jobs\n"),
    (r"\basync def\b", "def"),
    (r"\basync (for|with)\b(?!`)", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncIterator\b(?=[\[,\n])", "Iterator"),
    (r"\bAsyncTransport\b", "SyncTransport"),
    (r"\basync_transport\b", "sync_transport"),
    (r"\bclass AsyncClient\b", "class Client"),
    (r"\bAsyncQueues\b", "SyncQueues"),
    (r"\basync_queues\b(?!\.py)", "sync_queues"),
)
"""What is another word in a program with threads. `async for` and the like stay where they are quoted in docstrings."""

TEXTS = (
    (
        '''"""What the clients can do with queues, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_queues.py` is made from this file by `python -m tests.client.generate`.
"""
''',
        '''"""What `Client` can do with queues. Made from `async_queues.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''"""The client for asyncio, with all that both clients can do: each operation, what it takes, sends, answers and raises.

`sync_client.py` is made from this file by `python -m tests.client.generate`. What concerns queues is in async_queues.py.
"""
''',
        '''"""The client for threads. Made from `async_client.py` by `python -m tests.client.generate`: change that one."""
''',
    ),
    (
        '''    """A client of one server, or of several on one queue, for asyncio. `Client` is the same for threads.
''',
        '''    """A client of one server, or of several on one queue, for threads. `AsyncClient` is the same for asyncio.
''',
    ),
    (
        """Use it in one event loop, and
    close it there: `async with AsyncClient() as client: …`. Any number of tasks may share one: each call that is held has a connection
    of its own, without a bound. A call that is cancelled may still have happened. The jobs that a cancelled dequeue was about to return
    are given back in the background, which `close` waits for, 5 seconds at most.
""",
        """Any number of threads may share
    one, each call that is held having a connection of its own, and a process that forks may go on with it on both sides. Close it in the
    end: `with Client() as client: …`. The jobs that a dequeue was about to return when a signal interrupted it are given back, in a
    thread.
""",
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
