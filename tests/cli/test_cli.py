"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from jobqueue import __version__
from jobqueue.cli import main
from jobqueue.process.config import GROUPS, SETTINGS, Settings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """An empty folder, no variables, and a server that only notes what it was started with and exits with 7."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("JOBQUEUE_")]:
        monkeypatch.delenv(name)
    noted: list[Settings] = []

    def run(settings: Settings) -> int:
        noted.append(settings)
        return 7

    monkeypatch.setitem(sys.modules, "jobqueue.process.server", SimpleNamespace(run=run))
    return noted


def invoke(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def test_serve_starts_with_what_the_three_sources_say(started: list[Settings]) -> None:
    """Flags, variables and `.env` in the working directory end up in one Settings, and the exit code is the server's."""
    Path(".env").write_text("JOBQUEUE_PORT=1\nJOBQUEUE_MAX_JOBS=2\nJOBQUEUE_MAX_QUEUES=3\n", encoding="utf-8")
    result = invoke("serve", "--port", "11", "--allow-anonymous", JOBQUEUE_PORT="12", JOBQUEUE_MAX_JOBS="13")
    assert result.exit_code == 7
    (settings,) = started
    assert (settings.port, settings.limits.jobs_max, settings.limits.queues_max, settings.allow_anonymous) == (11, 13, 3, True)


def test_a_switch_on_the_command_line_can_be_turned_off(started: list[Settings]) -> None:
    """`--no-allow-anonymous` wins over the variable."""
    assert invoke("serve", "--no-allow-anonymous", JOBQUEUE_ALLOW_ANONYMOUS="true").exit_code == 7
    assert not started[0].allow_anonymous


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["--max-jobs", "many"], {}, ["--max-jobs: 'many' is not a whole number"]),
        ([], {"JOBQUEUE_MAX_JOBS": "many"}, ["JOBQUEUE_MAX_JOBS in the environment: 'many' is not a whole number"]),
        (["--token", ""], {}, ["--token: is empty"]),
        (["--max-wait", "1s"], {}, ["the default of --default-wait (20.0) must not exceed --max-wait (1.0)"]),
        (["--host", "0.0.0.0"], {}, ["0.0.0.0", "JOBQUEUE_TOKEN", "--allow-anonymous"]),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(
    arguments: list[str], environ: dict[str, str], words: list[str], started: list[Settings]
) -> None:
    """A setting that cannot be used ends the command at once: one line on stderr, nothing on stdout, exit code 2, no server."""
    result = invoke("serve", *arguments, **environ)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    assert started == []


def test_an_unknown_flag_is_exit_code_2(started: list[Settings]) -> None:
    """A misspelt flag is refused, and the right one proposed."""
    result = invoke("serve", "--max-job", "5")
    assert result.exit_code == 2
    assert "--max-jobs" in result.stderr
    assert started == []


def test_help_lists_every_setting_with_its_default_in_100_columns() -> None:
    """Every flag stands in the help with its text and default, under its heading, and no line is longer than the terminal."""
    result = CliRunner().invoke(main, ["serve", "--help"], terminal_width=100)
    assert result.exit_code == 0
    flat = " ".join(result.stdout.split())
    for title, group in GROUPS.items():
        assert f"\n{title}:\n" in result.stdout
        for setting in group:
            assert f"{setting.flag} {setting.kind.metavar}".strip() + " " + setting.help in flat
            assert f"{setting.help} [{setting.default}]" in flat
    assert max(map(len, result.stdout.splitlines())) <= 100
    # One line each, at this width: the help can be skimmed.
    assert sum(line.startswith("  --") for line in result.stdout.splitlines()) == len(SETTINGS)
    assert not [line for line in result.stdout.splitlines() if line.startswith(" " * 10)]


def test_the_version_is_the_packages() -> None:
    """`--version` prints name and version."""
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"jobqueue {__version__}\n")


def test_python_m_jobqueue_is_the_same_command(tmp_path: Path) -> None:
    """`python -m jobqueue` works like the installed script, exit code included, and a refusal loads no web server."""
    code = (
        "import runpy, sys; sys.argv[1:] = ['serve', '--port', 'x']\n"
        "try: runpy.run_module('jobqueue', run_name='__main__')\n"
        "except SystemExit as end: sys.exit(str((end.code, sorted({'aiohttp', 'uvloop'} & set(sys.modules)))))\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environ, check=False, timeout=60)
    assert done.stderr.splitlines() == ["Error: --port: 'x' is not a whole number", "(2, [])"]
