"""Changes the code in small ways and runs the tests that should notice: `python -m tests.mutation engine --sample 100`.

A mutant that no test notices is a test that is missing, or a change that makes no difference. Needs cosmic-ray (extra `dev`). Works in
copies of the tree, one for each process. docs/testing.md says what was found.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

ROOT = Path(__file__).parents[2]

ROOMS: dict[str, tuple[str, str]] = {
    "engine": ("jobqueue/engine", "tests/engine tests/conformance"),
    "backend": ("jobqueue/backend", "tests/backend tests/conformance tests/faults/test_datafile.py tests/faults/test_linked_file.py"),
    "http": ("jobqueue/http", "tests/http"),
}
"""Where mutants are made, and which tests should kill them, the quickest first."""

HANGS_AFTER = 5.0
"""A mutant whose tests take so many times what they take without it hangs, which is noticed too."""


class Found(NamedTuple):
    """What came of one mutant."""

    killed: bool
    diff: str


def unchecked(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The places of a file that nothing runs: annotations, which stay text, and imports for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        found: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases):
            found.append(node)
        for place in found:
            if isinstance(place, ast.expr | ast.stmt) and place.end_lineno is not None and place.end_col_offset is not None:
                yield (place.lineno, place.col_offset), (place.end_lineno, place.end_col_offset)


def mutants(folder: str) -> list[MutationSpec]:
    """Every mutant of a folder of the tree in which this runs."""
    paths = sorted(Path(folder).rglob("*.py"))
    with tempfile.TemporaryDirectory() as scratch, use_db(f"{scratch}/all.sqlite", WorkDB.Mode.create) as database:
        init(paths, database, {})
        specs = [spec for item in database.work_items for spec in item.mutations]
    out_of_reach = {path: list(unchecked(path)) for path in paths}
    return [
        spec
        for spec in specs
        if not any(start <= tuple(spec.start_pos) and tuple(spec.end_pos) <= end for start, end in out_of_reach[spec.module_path])
    ]


def tried(tree: str, spec: MutationSpec, command: str, seconds: float) -> Found:
    """Make a mutant in a copy of the tree, and run the tests for so long at most."""
    copy = f"{tree}-{os.getpid()}"
    if not Path(copy).exists():
        shutil.copytree(tree, copy)
    os.chdir(copy)
    result: WorkResult = mutate_and_test([spec], command, seconds)
    return Found(result.test_outcome is not TestOutcome.SURVIVED, result.diff or f"{spec.module_path}: no diff\n{result.output or ''}")


def main() -> int:
    """Try mutants of one room; print those that lived, and the score. Exit code 1 when the unchanged tree fails its tests."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("--sample", type=int, default=100, help="how many mutants, drawn at random; 0 for all (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: one a core)")
    given = parser.parse_args()
    folder, tests = ROOMS[given.room]
    command = f"{sys.executable} -m pytest -n0 -x -q -p tests.mutation.quick -p no:randomly -p no:cacheprovider {tests}"
    with tempfile.TemporaryDirectory() as scratch:
        tree = f"{scratch}/tree"
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            Path(tree, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, Path(tree, name))
        os.chdir(tree)
        os.environ["PYTHONPATH"] = ""
        began = time.monotonic()
        if subprocess.run(command, shell=True, cwd=tree, check=False).returncode:
            print("the tests fail without a mutant", file=sys.stderr)
            return 1
        # Others run beside it then.
        seconds = HANGS_AFTER * (time.monotonic() - began)
        found = mutants(folder)
        chosen = found if not given.sample else random.Random(given.seed).sample(found, min(given.sample, len(found)))
        killed = 0
        with ProcessPoolExecutor(given.jobs) as pool:
            for one in pool.map(partial(tried, tree, command=command, seconds=seconds), chosen):
                killed += one.killed
                print("." if one.killed else "L", end="", file=sys.stderr, flush=True)
                if not one.killed:
                    print(one.diff, end="\n\n", flush=True)
        share = f"{killed} of {len(chosen)} mutants killed, {killed / max(1, len(chosen)):.0%}"
        print(f"{given.room}: {share} ({len(found)} in all, seed {given.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
