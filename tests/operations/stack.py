"""What docs/operations/scale-out/compose.yaml describes, run without containers: its commands, environment, configuration files and health
checks as they stand there, each service a process on a loopback address of its own, so that every port stays what it is.

Only what a container would give is replaced: addresses and names by the service's loopback address, paths of configuration files and data
by a temporary folder, the image's program by the one installed here.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.valkey import binary, needs_valkey, until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "operations" / "scale-out" / "compose.yaml"
PATIENCE_SECONDS = 120.0

VARIABLES = {"JOBQUEUE_TOKEN": secrets.token_hex(16), "PEER_SECRET": secrets.token_hex(16), "VALKEY_PASSWORD": secrets.token_hex(16)}
"""What the file asks its user for."""

NGINX = """pid {folder}/pid;
error_log stderr;
daemon off;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {conf};
}}
"""
"""Around a file of conf.d, what the image has."""


def valkey_cli() -> str | None:
    """Valkey's command line, or that of Redis, which is the same for what is asked of it here."""
    return shutil.which("valkey-cli") or shutil.which("redis-cli")


def needs_all() -> None:
    """Skip where a program that the file uses cannot be had."""
    needs_valkey()
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has all of 127.0.0.0/8 without being told")
    if valkey_cli() is None:
        pytest.skip("neither valkey-cli nor redis-cli is installed; install one (Debian: redis-tools) to have the cluster formed by it")
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed; install it to have the servers asked through it")


def interpolated(value: Any) -> Any:
    """The document with `${NAME:?message}` replaced, which is all of Compose's substitution that the file uses."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: VARIABLES[found[1]], value)
        assert "$" not in value, value
    return value


def document() -> dict[str, Any]:
    """The file, anchors and variables resolved."""
    return dict(interpolated(yaml.safe_load(FILE.read_text(encoding="utf-8"))))


def _network() -> str:
    """The first three bytes of addresses of loopback that nobody else uses."""
    while True:
        network = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind((f"{network}.1", 8080))
            return network


class Stack:
    """Every service of the file. `up` starts them in the order that they ask for; `close` ends all."""

    def __init__(self) -> None:
        self._document = document()
        self.services: dict[str, dict[str, Any]] = self._document["services"]
        self._folder = Path(tempfile.mkdtemp(prefix="stack-"))
        (self._folder / "bin").mkdir()
        (self._folder / "bin" / "valkey-cli").symlink_to(str(valkey_cli()))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        subnet = self._document["networks"]["queue"]["ipam"]["config"][0]["subnet"].removesuffix(".0/24")
        self._network, self._subnet = _network(), subnet
        self._addresses = {"nginx": f"{self._network}.200"}
        for name, service in self.services.items():
            if isinstance(service["networks"], dict):
                self._addresses[name] = self._here(service["networks"]["queue"]["ipv4_address"])

    @property
    def url(self) -> str:
        """Where clients ask: nginx."""
        return f"http://{self._addresses['nginx']}:8080"

    def named(self, prefix: str) -> list[str]:
        """The services that are called so, and a number."""
        return [name for name in self.services if re.fullmatch(rf"{prefix}-\d+", name)]

    def address(self, name: str) -> str:
        """Where a service is."""
        return self._addresses[name]

    def _here(self, text: str) -> str:
        """A text with the addresses of the file's network, and the names in it, as they are here."""
        text = text.replace(f"{self._subnet}.", f"{self._network}.")
        for name, address in getattr(self, "_addresses", {}).items():
            text = re.sub(rf"(?<![\w/-]){name}(?=:\d)", address, text)
        return text

    def _of(self, name: str, text: str) -> str:
        """The same for what a service itself reads: every address, and its own loopback, are its own address."""
        return self._here(text).replace("0.0.0.0", self._addresses[name]).replace("127.0.0.1", self._addresses[name])

    def _config(self, name: str, target: str) -> str:
        """The text of the configuration file that is mounted there."""
        (source,) = [config["source"] for config in self.services[name]["configs"] if config["target"] == target]
        config = self._document["configs"][source]
        return self._here(config["content"] if "content" in config else (FILE.parent / config["file"]).read_text(encoding="utf-8"))

    def up(self) -> None:
        """Start everything, each after what it depends on, as `docker compose up` does."""
        for name in self.services:
            self._up(name)

    def _up(self, name: str) -> None:
        if name in self._processes:
            return
        needed = self.services[name].get("depends_on", [])
        for other in needed:
            self._up(other)
        for other, wanted in needed.items() if isinstance(needed, dict) else ():
            if wanted["condition"] == "service_healthy":
                self.healthy(other)
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert self._processes[other].wait(PATIENCE_SECONDS) == 0, self.log(other)
        self.start(name)

    def start(self, name: str) -> None:
        """Start a service, as it was if it was before."""
        service = self.services[name]
        if "build" in service:
            assert re.search(r'ENTRYPOINT \["jobqueue"\]\nCMD \["serve"\]', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
            command = [sys.executable, "-W", "error", "-m", "jobqueue", "serve"]
            # As the image sets it.
            environment = {"JOBQUEUE_HOST": "0.0.0.0", **service["environment"]}
        elif name == "nginx":
            command, environment = self._nginx(), {}
        elif service["command"][0] == "valkey-server":
            command, environment = self._valkey(name, service["command"]), {}
        else:
            command, environment = [self._here(part) for part in service["command"]], service["environment"]
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        paths = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH", "")) if path)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("JOBQUEUE_")}
        mine = {key: self._of(name, value) if name in self._addresses else self._here(value) for key, value in environment.items()}
        if shutil.which("setpriv"):
            # So that not even a test process that is killed leaves it behind.
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (folder / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=clean | {"PYTHONPATH": paths, "PATH": f"{self._folder}/bin:{os.environ['PATH']}"} | mine,
            )  # fmt: skip

    def _valkey(self, name: str, command: list[str]) -> list[str]:
        program, path = command
        assert program == "valkey-server"
        folder, address = self._folder / name, self._addresses[name]
        folder.mkdir(exist_ok=True)
        text = self._config(name, path)
        assert "dir /data\n" in text
        (folder / "valkey.conf").write_text(text.replace("dir /data\n", f"dir {folder}\nbind {address}\nbind-source-addr {address}\n"))
        return [str(binary()), str(folder / "valkey.conf")]

    def _nginx(self) -> list[str]:
        folder = self._folder / "nginx"
        folder.mkdir(exist_ok=True)
        text = self._config("nginx", "/etc/nginx/conf.d/default.conf")
        assert "listen 8080;" in text
        (folder / "default.conf").write_text(text.replace("listen 8080;", f"listen {self._addresses['nginx']}:8080;"))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, conf=folder / "default.conf"))
        return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]

    def healthy(self, name: str) -> None:
        """Wait until a service's own health check says that it is well. One that ends is started again, as `restart` says."""
        test = self.services[name]["healthcheck"]["test"]
        assert test[:2] == ["CMD", "python"]
        command = [sys.executable, *(self._of(name, part) for part in test[2:])]
        assert self.services[name]["restart"] == "unless-stopped"

        def well() -> bool:
            if self._processes[name].poll() is not None:
                self.start(name)
            return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0

        try:
            until(f"{name} is well", well, PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)}") from None

    def log(self, name: str) -> str:
        """What a service printed so far."""
        return (self._folder / name / "log").read_text(encoding="utf-8", errors="replace")

    def kill(self, name: str) -> None:
        """End a service at once."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> int:
        """End a service as `docker compose stop` does; its exit code."""
        self._processes[name].send_signal(signal.SIGTERM)
        return self._processes[name].wait(PATIENCE_SECONDS)

    def restart(self, name: str) -> None:
        """Stop a server, start it anew, and wait until it is well."""
        assert self.stop(name) == 0, self.log(name)
        self.start(name)
        self.healthy(name)

    def cli(self, name: str, *command: str) -> str:
        """What a Valkey answers to a command."""
        done = subprocess.run(
            [str(valkey_cli()), "-h", self.address(name), *command], capture_output=True, text=True, check=True, timeout=30,
            env={"REDISCLI_AUTH": VARIABLES["VALKEY_PASSWORD"]},
        )  # fmt: skip
        return done.stdout.strip()

    def primary(self, key: str) -> str:
        """The Valkey whose slot a key is in."""
        asked = next(name for name in self.named("valkey") if self._processes[name].poll() is None)
        slot = int(self.cli(asked, "cluster", "keyslot", key))
        for line in self.cli(asked, "cluster", "nodes").splitlines():
            address, flags, slots = line.split()[1].partition(":")[0], line.split()[2], line.split()[8:]
            ranges = [part.split("-") for part in slots if "[" not in part]
            if "master" in flags and any(int(span[0]) <= slot <= int(span[-1]) for span in ranges):
                return next(name for name, there in self._addresses.items() if there == address)
        raise AssertionError(f"nobody serves slot {slot}")

    def replicas(self, primary: str) -> list[str]:
        """The Valkeys that follow it."""
        lines = [line.split() for line in self.cli(primary, "cluster", "nodes").splitlines()]
        (mine,) = [words[0] for words in lines if "myself" in words[2]]
        following = {words[1].partition(":")[0] for words in lines if words[3] == mine}
        return [name for name, address in self._addresses.items() if address in following]

    def again(self, name: str) -> None:
        """Restart a Valkey, and wait until it follows its primary in step again."""
        assert self.stop(name) == 0, self.log(name)
        self.back(name)

    def back(self, name: str) -> None:
        """Start a Valkey that was ended, and wait until it follows its primary in step."""
        self.start(name)

        def follows() -> bool:
            try:
                return "master_link_status:up" in self.cli(name, "info", "replication")
            except subprocess.CalledProcessError:
                return False

        until(f"{name} follows its primary", follows, PATIENCE_SECONDS)

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for process in self._processes.values():
            if process.poll() is None:
                # nginx's workers end with their master only if it is asked.
                process.terminate() if "nginx" in str(process.args) else process.kill()
            process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)
