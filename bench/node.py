"""What npm has: packages, and the programs that come in them, in the folder that BENCH_NODE names, or in this one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bench.process import Unavailable

FOLDER = "BENCH_NODE"
INSTALL = "npm install bunqueue@2.9.5 bullmq@6.7.0 ioredis@6.0.0 bun@1.4.5 fauxqs@2.4.1 local-aws-sqs@2.0.2 node@22"


def modules() -> Path:
    """Where packages lie."""
    return Path(os.environ.get(FOLDER, "."), "node_modules").absolute()


def package(name: str) -> Path:
    """A package's folder. Raises Unavailable, which says how to install it."""
    folder = modules() / name
    if not folder.is_dir():
        raise Unavailable(f"{name} of npm is not installed; {FOLDER} names a folder with `{INSTALL}`")
    return folder


def version(name: str) -> str:
    """A package's version. Raises Unavailable."""
    found: str = json.loads((package(name) / "package.json").read_text())["version"]
    return found


def program(name: str) -> str:
    """`bun` or `node`, as npm has it or else from the PATH. Raises Unavailable."""
    found = shutil.which(name, path=str(modules() / ".bin")) or shutil.which(name)
    if found is None:
        package(name)
        raise Unavailable(f"{name} of npm has no program; its install script did not run")
    return found
