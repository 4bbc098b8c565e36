"""docs/sqs.md: its lines are taken from the page, written into files and typed into a shell, and the workers print what the page says."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from kit import HERE, PATIENCE_SECONDS, Program, until

PAGE = (HERE.parents[2] / "docs/sqs.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^<!-- ([^>]+) -->\n```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
ENVIRONMENTS = Path(os.environ["CHECKS_ENVIRONMENTS"])
ADDRESS = "127.0.0.1:8080"
LINES_MAX = 6
CLIENTS = sorted({name.partition(":")[0] for name in BLOCKS if ":" in name})


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Terminal:
    """A shell in a folder of its own. `pip` installs into the environment that it is in already, and `jobqueue serve` takes a free port."""

    def __init__(self, folder: Path, server: str = "") -> None:
        self.folder = folder
        self.server = server
        self._programs: list[Program] = []
        shims = folder / "shims"
        shims.mkdir()
        uv = f"UV_CACHE_DIR={ENVIRONMENTS}/cache VIRTUAL_ENV={ENVIRONMENTS}/current {ENVIRONMENTS}/uv/bin/uv"
        program(shims / "pip", f'{uv} pip "$@"')
        # The address is replaced in what the page says, and the port added where it says none.
        serve = 'if [ "$1" = serve ]; then set -- "$@" --port 0; fi'
        program(shims / "jobqueue", f'{serve}\nexec "$CHECKS_SERVER_PYTHON" -m jobqueue "$@"')
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name == "AWS_EC2_METADATA_DISABLED"},
            "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE.parents[2]),
            "npm_config_cache": str(ENVIRONMENTS / "npm"),
            "npm_config_prefer_offline": "true",
            "npm_config_audit": "false",
            "npm_config_fund": "false",
            "npm_config_update_notifier": "false",
        }

    def file(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self._there(text))

    def _there(self, text: str) -> str:
        return text.replace(ADDRESS, self.server) if self.server else text

    def begin(self, name: str, *blocks: str) -> Program:
        """Type lines into a shell of their own; what they start may go on."""
        script = "set -eu\n" + "".join(self._there(block) for block in blocks)
        begun = Program(["bash", "-c", script], self.folder / f"{name}.log", cwd=self.folder, env=self._environment)
        self._programs.append(begun)
        return begun

    def do(self, name: str, *blocks: str) -> str:
        """Type lines and wait for their end, which must be a good one; what they print."""
        done = self.begin(name, *blocks)
        assert done.process.wait(PATIENCE_SECONDS) == 0, done.said()
        return done.said()

    def serve(self, *blocks: str) -> Program:
        """Type lines of which the last begins a server, and know its address from then on."""
        server = self.begin("serve", *blocks)
        serves = re.compile(r"^jobqueue serves http://(\S+)$", re.MULTILINE)
        until(lambda: serves.search(server.said()) or server.process.poll() is not None, "the server serves")
        found = serves.search(server.said())
        assert found is not None, server.said()
        self.server = found[1]
        return server

    def close(self) -> None:
        for begun in self._programs:
            begun.kill()
            print(f"--- {begun.log.name}\n{begun.said()[-4000:]}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server that the page begins with; its other lines are typed in other terminals."""
    opened = Terminal(tmp_path_factory.mktemp("server"))
    opened.serve(BLOCKS["serve"])
    yield opened.server
    opened.close()


@pytest.fixture
def terminal(tmp_path: Path, server: str) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, server)
    yield opened
    opened.close()


def test_the_page_has_a_section_for_each() -> None:
    """Four clients, each with a worker of a few lines, what starts it, what sends to it, and what it prints."""
    assert CLIENTS == ["aws-cli", "boto3", "celery", "javascript"]
    for client in CLIENTS:
        assert {f"{client}: {part}" for part in ("worker", "send", "prints")} <= set(BLOCKS)
        (code,) = [text for name, text in BLOCKS.items() if re.fullmatch(rf"{client}: (worker|tasks)\.\w+", name)] or [
            BLOCKS[f"{client}: worker"]
        ]
        assert len([line for line in code.splitlines() if line]) <= LINES_MAX


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_from_nothing(terminal: Terminal, client: str) -> None:
    """Say where the server is, write the files, start the worker, send: it prints what the page says."""
    if client == "javascript":
        if not (ENVIRONMENTS / "node" / "node_modules").exists():
            pytest.skip(
                "Node or its packages could not be had; with node and npm, from version 20 on, in PATH, and npm's registry, this would run"
            )
        # What npm installs is there already, as after the first time.
        shutil.copytree(ENVIRONMENTS / "node" / "node_modules", terminal.folder / "node_modules")
        shutil.copy(ENVIRONMENTS / "node" / "package.json", terminal.folder)
        shutil.copy(ENVIRONMENTS / "node" / "package-lock.json", terminal.folder)
    for name, text in BLOCKS.items():
        if name.startswith(f"{client}: ") and "." in name:
            terminal.file(name.partition(": ")[2], text)

    # The worker makes the queue, and what sends looks for it.
    sqs = boto3.client("sqs", endpoint_url=f"http://{terminal.server}/sqs")
    before = sqs.list_queues().get("QueueUrls")
    worker = terminal.begin("worker", BLOCKS["environment"], BLOCKS[f"{client}: worker"])
    until(lambda: sqs.list_queues().get("QueueUrls") != before, "the worker has made its queue")
    terminal.do("send", BLOCKS["environment"], BLOCKS[f"{client}: send"])

    until(lambda: BLOCKS[f"{client}: prints"].strip() in worker.said(), "the worker printed it")
    for url in set(sqs.list_queues()["QueueUrls"]) - set(before or ()):
        sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal with no server yet."""
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


def test_tokens(other: Terminal) -> None:
    """The lines on tokens: with the token all goes as before within its queues, and with none it is refused."""
    # The variable is set in the shell that begins the server; here another one has to know it too.
    lines = BLOCKS["tokens"].splitlines(keepends=True)
    other.serve(*lines[:-1], 'echo "$AWS_SESSION_TOKEN" > token\n', lines[-1])
    create = "python -c 'import boto3, sys; boto3.client(\"sqs\").create_queue(QueueName=sys.argv[1])' "
    token = "export AWS_SESSION_TOKEN=$(cat token)\n"

    other.do("with", BLOCKS["environment"], token, f"{create} shop-1\n")
    for name, lines_before, queue, code in (("without", "", "shop-2", "InvalidClientTokenId"), ("elsewhere", token, "x", "AccessDenied")):
        refused = other.begin(name, BLOCKS["environment"], lines_before, f"{create} {queue}\n")
        assert refused.process.wait(PATIENCE_SECONDS) != 0
        assert code in refused.said()


def test_other_ways_that_the_page_names(terminal: Terminal) -> None:
    """Celery goes by the variable alone; Python's clients take URLs of AWS; the root answers too."""
    tasks = BLOCKS["celery: tasks.py"]
    terminal.file(
        "tasks.py", tasks.replace(f'broker="sqs://{ADDRESS}//", broker_transport_options={{"is_secure": False}}', 'broker="sqs://"')
    )
    assert terminal.server not in (terminal.folder / "tasks.py").read_text()
    terminal.do("celery", BLOCKS["environment"], BLOCKS["celery: send"])
    terminal.file(
        "ways.py",
        """
import boto3

sqs = boto3.client("sqs")
(url,) = sqs.list_queues(QueueNamePrefix="celery")["QueueUrls"]
assert url == "http://127.0.0.1:8080/sqs/000000000000/celery"
(message,) = sqs.receive_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/123456789012/celery")["Messages"]
root = boto3.client("sqs", endpoint_url="http://127.0.0.1:8080")
root.delete_message(QueueUrl="celery", ReceiptHandle=message["ReceiptHandle"])
assert root.list_queues(QueueNamePrefix="celery")["QueueUrls"][0].endswith("/000000000000/celery")
""",
    )
    terminal.do("ways", BLOCKS["environment"], "python ways.py\n")
