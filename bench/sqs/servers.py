"""Which servers speak SQS, how each is started, and what it keeps on disk. One that is not installed is skipped by name."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import node
from bench.peers.servers import _free_port, _wait_for, program
from bench.process import ROOT, STOP_SECONDS


class Command(NamedTuple):
    """How to start a server on a port. url: its address is this with the port in it."""

    arguments: list[str]
    environment: dict[str, str]
    url: str = "http://127.0.0.1:{port}"


class Peer(NamedTuple):
    """A server in one set-up. version: of the distribution that has it. disk: what is on disk when a change is acknowledged."""

    key: str
    name: str
    command: Callable[[Path, int], Command]
    version: Callable[[], str]
    disk: str = ""


def _beside(name: str) -> str:
    """A program of the environment in BENCH_SQS_VENV, where packages lie that cannot share one with boto3; else of this one."""
    apart = os.environ.get("BENCH_SQS_VENV")
    found = None if apart is None else shutil.which(name, path=str(Path(apart, "bin")))
    return found or program(name, f"PyPI's {'roto-aws' if name == 'roto-server' else name}")


def _python_version(distribution: str) -> Callable[[], str]:
    def asked() -> str:
        apart = os.environ.get("BENCH_SQS_VENV")
        for python in ([] if apart is None else [str(Path(apart, "bin/python"))]) + [sys.executable]:
            code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
            ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            if not ran.returncode:
                return ran.stdout.strip()
        return ""

    return asked


def _node_program() -> str:
    """Node as npm has it: fauxqs wants 22.5, which Debian has not."""
    return str(node.package("node") / "bin/node")


def _node_version(package: str) -> Callable[[], str]:
    return functools.partial(node.version, package)


def _ours(folder: Path, port: int, *more: str) -> Command:
    base = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    return Command([*base, *more], {}, "http://127.0.0.1:{port}/sqs")


def _ours_durable(folder: Path, port: int) -> Command:
    return _ours(folder, port, "--data", str(folder / "jobs.db"), "--sync", "always")


def _moto(folder: Path, port: int) -> Command:
    return Command([program("moto_server", "PyPI's moto[server,sqs]"), "-H", "127.0.0.1", "-p", str(port)], {})


def _ministack(folder: Path, port: int) -> Command:
    return Command([_beside("ministack")], {"GATEWAY_PORT": str(port), "LOG_LEVEL": "ERROR"})


def _roto(folder: Path, port: int) -> Command:
    return Command([_beside("roto-server"), "--port", str(port), "--ephemeral"], {"RUST_LOG": "error"})


def _roto_durable(folder: Path, port: int) -> Command:
    return Command([_beside("roto-server"), "--port", str(port), "--data-dir", str(folder / "roto"), "--durable"], {"RUST_LOG": "error"})


def _fauxqs(folder: Path, port: int) -> Command:
    return Command([_node_program(), str(node.package("fauxqs") / "dist/cli.js")], {"FAUXQS_PORT": str(port), "FAUXQS_LOGGER": "false"})


def _local(folder: Path, port: int) -> Command:
    node.package("local-aws-sqs")
    code = f'require("local-aws-sqs").createSqsServer({{ port: {port}, hostname: "127.0.0.1" }})'
    return Command([_node_program(), "-e", code], {"NODE_PATH": str(node.modules())})


def _own_version() -> str:
    import jobqueue

    return jobqueue.__version__


PEERS = (
    Peer("jobqueue", "jobqueue", _ours, _own_version),
    Peer("moto", "moto_server", _moto, _python_version("moto")),
    Peer("ministack", "MiniStack", _ministack, _python_version("ministack")),
    Peer("roto", "roto-aws", _roto, _python_version("roto-aws")),
    Peer("fauxqs", "fauxqs", _fauxqs, _node_version("fauxqs")),
    Peer("local", "local-aws-sqs", _local, _node_version("local-aws-sqs")),
    Peer("jobqueue-data", "jobqueue `--data`", _ours_durable, _own_version, "all, synced (`--sync always`)"),
    Peer("roto-durable", "roto-aws `--durable`", _roto_durable, _python_version("roto-aws"), "all, synced (SQLite, `synchronous=FULL`)"),
)
KEYS = tuple(peer.key for peer in PEERS)
OURS = ("jobqueue", "jobqueue-data")


def has_boto() -> bool:
    """Whether there is a boto3 here."""
    return importlib.util.find_spec("boto3") is not None


class Running(NamedTuple):
    """A server that listens. url: where clients send what they have to say."""

    pid: int
    port: int
    url: str


@contextlib.contextmanager
def running(peer: Peer, folder: Path) -> Iterator[Running]:
    """A server for as long as the context lasts. Raises BenchError if it cannot be started, with the reason."""
    folder.mkdir(parents=True)
    port = _free_port()
    command = peer.command(folder, port)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.arguments,
            cwd=ROOT if peer.key in OURS else folder,
            env=environment | command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(process, port, log)
        yield Running(process.pid, port, command.url.format(port=port))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
