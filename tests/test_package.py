"""The Dockerfile's own commands, run in fresh virtual environments and folders, since no engine is at hand to build it.

Its instructions are read and carried out one by one: COPY obeys .dockerignore, RUN and the health check run in a shell or without one as
Docker would, ENV, ENTRYPOINT and CMD start the server. Translated are only paths (into a temporary folder), the base image's Python
(this one, in a virtual environment of its own) and the published port.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from jobqueue import __version__
from jobqueue.process.config import Settings

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-this-test"
PATIENCE_SECONDS = 60.0

Test = Callable[..., None]


class Instruction(NamedTuple):
    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The Dockerfile's stages, each beginning with its FROM."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found: list[list[Instruction]] = []
    for line in filter(None, lines):
        instruction = Instruction(*line.split(maxsplit=1))
        if instruction.word == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def every(stage: list[Instruction], word: str) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]


def only(stage: list[Instruction], word: str) -> str:
    (rest,) = every(stage, word)
    return rest


def kept_out(name: str) -> bool:
    """Whether .dockerignore keeps a path at the top of the context out of the build. The last pattern that fits counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").strip()
        if pattern and not line.startswith("#") and fnmatch.fnmatch(name, pattern):
            out = not line.startswith("!")
    return out


class Image(NamedTuple):
    """What the Dockerfile's commands made: how to start it, in which folder, under which environment."""

    start: list[str]
    folder: Path
    environ: dict[str, str]
    health: list[str]

    def run(self, command: list[str], **environ: str) -> subprocess.Popen[str]:
        merged = {**self.environ, **environ}
        executable = shutil.which(command[0], path=merged["PATH"])
        assert executable is not None
        return subprocess.Popen(
            [executable, *command[1:]],
            cwd=self.folder,
            env=merged,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def serving(self, **environ: str) -> Iterator[subprocess.Popen[str]]:
        process = self.run(self.start, **environ)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def healthy(self, port: int) -> bool:
        """What the health check says, once."""
        with self.run(self.health, JOBQUEUE_PORT=str(port)) as check:
            check.communicate(timeout=PATIENCE_SECONDS)
        assert check.returncode in (0, 1), "Docker reserves every other code"
        return check.returncode == 0


def outside() -> dict[str, str]:
    """This process's environment without what would lead to this checkout, its settings or this interpreter's environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JOBQUEUE_", "VIRTUAL_ENV"))}


def builds(test: Test) -> Test:
    """Mark a test that needs the image. Building it takes long, so one process has all of them."""
    return pytest.mark.long(pytest.mark.xdist_group("image")(test))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The Dockerfile carried out: built from what it copies, installed, ready to start."""
    top = tmp_path_factory.mktemp("image")
    base = top / "base"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True, env=outside())
    build, final = stages()
    places = {"/src": top / "src", "/wheels": top / "wheels", "/opt/jobqueue": top / "opt" / "jobqueue"}

    def here(text: str) -> str:
        for place, real in places.items():
            text = re.sub(rf"(?<![\w./]){place}\b", str(real), text)
        return text

    folder = Path(here(only(build, "WORKDIR")))
    folder.mkdir()
    for copied in every(build, "COPY"):
        *sources, target = copied.split()
        for source in sources:
            assert not kept_out(source), f".dockerignore keeps out {source}, which the build copies"
            whole = ROOT / source
            if whole.is_dir():
                shutil.copytree(whole, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(whole, folder / target)
    path = os.pathsep.join((str(base / "bin"), "/usr/local/bin", "/usr/bin", "/bin"))
    for command in every(build, "RUN"):
        done = subprocess.run(
            ["/bin/sh", "-c", here(command)], cwd=folder, env={**outside(), "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    environ = {**outside(), "PATH": path}
    for setting in only(final, "ENV").split():
        name, _, value = setting.partition("=")
        environ[name] = here(value).replace("$PATH", environ["PATH"])
    empty = top / "empty"
    empty.mkdir()
    health = only(final, "HEALTHCHECK").partition("CMD ")[2]
    return Image(json.loads(only(final, "ENTRYPOINT")) + json.loads(only(final, "CMD")), empty, environ, json.loads(health))


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago. Port 0 would not do: the health check has to know it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_final_stage_is_slim_unprivileged_and_built_elsewhere() -> None:
    """Two stages on slim images; the last makes only a folder for a volume, copies only the built environment, drops root by number."""
    build, final = stages()
    assert only(build, "FROM").startswith("python:3.13-slim")
    assert only(final, "FROM").startswith("python:3.13-slim")
    # The one folder that the server may write to, for a volume.
    assert every(final, "RUN") == ["install -d -o 10001 -g 10001 /data"]
    assert only(final, "COPY") == "--from=build /opt/jobqueue /opt/jobqueue"
    user, group = only(final, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert only(final, "STOPSIGNAL") == "SIGTERM"
    assert only(final, "EXPOSE") == str(Settings().port)


def test_the_build_sees_nothing_but_what_it_copies() -> None:
    """.dockerignore lets in what the build copies and keeps out the rest, a `.env` with its token above all."""
    build, _ = stages()
    copied = {source for rest in every(build, "COPY") for source in rest.split()[:-1]}
    let_in = {path.name for path in ROOT.iterdir() if not kept_out(path.name)}
    assert let_in == copied
    assert kept_out(".env")
    assert kept_out(".git")


@builds
def test_what_is_installed_is_the_package_alone(image: Image) -> None:
    """The installed command is this version, from the new environment, with its type marker and without tests."""
    code = "import jobqueue, importlib.util as u, pathlib as p; f = p.Path(jobqueue.__file__).parent; "
    code += "print(f, (f / 'py.typed').is_file(), u.find_spec('tests'), u.find_spec('pip'))"
    with image.run(["python", "-I", "-c", code]) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    place, typed, tests, pip = out.split()
    assert err == ""
    assert Path(place).is_relative_to(image.folder.parent / "opt")
    assert (typed, tests, pip) == ("True", "None", "None")
    with image.run([image.start[0], "--version"]) as process:
        assert process.communicate(timeout=PATIENCE_SECONDS)[0] == f"jobqueue {__version__}\n"


@builds
def test_with_a_token_it_serves_is_healthy_and_stops_on_sigterm(image: Image, port: int) -> None:
    """Started as `docker run -e JOBQUEUE_TOKEN=...` would, it becomes healthy, asks for the token, and exits with 0 on SIGTERM."""
    assert not image.healthy(port), "something else answers on this port"
    with image.serving(JOBQUEUE_TOKEN=TOKEN, JOBQUEUE_PORT=str(port)) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not image.healthy(port):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        assert status(port, "/queues") == 401
        assert status(port, "/queues", TOKEN) == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert "Traceback" not in err
    assert not image.healthy(port)


def status(port: int, path: str, token: str | None = None) -> int:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *([f"Authorization: Bearer {token}"] if token else [])]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@builds
def test_without_a_token_it_refuses_and_says_both_ways_out(image: Image, port: int) -> None:
    """Started as `docker run` without a token, it ends at once with exit code 2 and one line that names both ways out."""
    with image.serving(JOBQUEUE_PORT=str(port)) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "JOBQUEUE_TOKEN" in err
    assert "--allow-anonymous" in err
