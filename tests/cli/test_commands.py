"""What all verbs have in common: help, exit codes, errors, where the server is found, completion."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import trustme
from click.testing import Result

from jobqueue import Client, Retrying
from jobqueue.cli import main
from jobqueue.commands.exits import EXITS
from jobqueue.commands.lazy import VERBS
from jobqueue.testing import server_in_thread

Run = Callable[..., Result]

PAGE = Path(__file__).parents[2] / "docs/cli.md"
LAZY = {name: verb for section in VERBS.values() for name, verb in section.items()}
CTX = click.Context(main, info_name="jobqueue")
COMMON = ("--url", "--token", "--ca-file", "--json")
"""Options of all verbs, which the page tells of once."""
NOWHERE = "http://127.0.0.1:1"
"""Nothing listens there."""


def loaded(name: str) -> click.Command:
    command = main.get_command(CTX, name)
    assert command is not None
    return command


def parameters(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from (flag for flag in parameter.opts if flag.startswith("--"))


@pytest.mark.parametrize("name", main.list_commands(CTX))
def test_every_help_has_an_example(name: str, run: Run) -> None:
    """`--help` of each verb shows how it is called."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert re.search(rf"^  Examples?:\n    .*jobqueue {name}", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", LAZY)
def test_the_list_of_verbs_says_what_their_help_says(name: str) -> None:
    """The sentence in the list of all verbs is the first of the verb's own help, so that the two cannot drift apart."""
    assert (loaded(name).help or "").startswith(LAZY[name].help)
    assert loaded(name).name == name


def test_help_loads_no_client_and_no_rich(alone: Path) -> None:
    """Help is quick: neither HTTP clients nor rich are imported for it."""
    code = (
        "import sys; from jobqueue.cli import main\n"
        "for line in (['--help'], ['enqueue', '--help'], ['work', '--help'], ['top', '--help']):\n"
        "    main(line, standalone_mode=False)\n"
        "print('loaded', sorted({'aiohttp', 'urllib3', 'rich', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_help_lists_the_exit_codes(run: Run) -> None:
    """Every exit code stands in the help and on the page, with its meaning."""
    text = " ".join(run("--help").stdout.split())
    page = PAGE.read_text(encoding="utf-8")
    for code, meaning in EXITS.items():
        assert f"{int(code)} {meaning}" in text
        assert f"| {int(code)} | {meaning} |" in page


@pytest.mark.parametrize("name", LAZY)
def test_the_page_shows_every_verb_and_option(name: str) -> None:
    """docs/cli.md has a heading for each verb, an example, and each option that is not common to all."""
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [section for section in sections if section.startswith(f"{name}\n")]
    assert f"jobqueue {name}" in section
    command = loaded(name)
    if not isinstance(command, click.Group):
        assert [flag for flag in parameters(command) if f"`{flag}" not in section and flag not in COMMON] == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent twice, so that nobody waits for a server that will not come."""
    monkeypatch.setattr(Retrying, "pause", lambda *_: None)


VERB_LINES = [
    ["enqueue", "1"],
    ["get", "a"],
    ["why", "a"],
    ["list"],
    ["cancel", "a"],
    ["run", "a"],
    ["retry", "a"],
    ["attempts", "a"],
    ["dequeue"],
    ["extend", "a", "--lease", "b"],
    ["release", "a", "--lease", "b"],
    ["events"],
    ["conclude", "a", "--lease", "b"],
    ["queues"],
    ["policy", "a"],
    ["keys", "a"],
    ["pause", "a"],
    ["resume", "a"],
    ["purge", "a"],
    ["delete", "a"],
    ["stats"],
    ["top"],
]


@pytest.mark.parametrize("line", VERB_LINES, ids=lambda line: line[0])
@pytest.mark.usefixtures("hasty")
def test_a_server_that_is_not_there_is_exit_code_5(line: list[str], run: Run) -> None:
    """Every verb says in one line that the server cannot be reached, and exits with 5."""
    result = run(*line, "--url", NOWHERE)
    assert result.exit_code == 5
    assert result.stdout == ""
    assert re.fullmatch(r"Error: connection_failed: .*127\.0\.0\.1.*; is the server running there\? .*--url.*\n", result.stderr)


@pytest.mark.parametrize("line", VERB_LINES, ids=lambda line: line[0])
@pytest.mark.usefixtures("hasty")
def test_with_json_an_error_is_a_problem_on_stderr(line: list[str], run: Run) -> None:
    """With --json stdout stays empty and stderr holds one problem with its code."""
    result = run(*line, "--json", "--url", NOWHERE)
    assert (result.exit_code, result.stdout) == (5, "")
    problem = json.loads(result.stderr)
    assert (problem["type"], problem["code"]) == ("urn:jobqueue:problem:connection_failed", "connection_failed")
    assert problem["detail"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["list", "--url", "ftp://x"], "must be http://HOST:PORT"),
        (["list", "--url", "http://x,y:80"], "url, entry 2: 'y:80' must be http://HOST:PORT"),
        (["list", "--token", "a b"], "token: must be"),
        (["work", "--exec", "true", "--url", "nonsense"], "must be http://HOST:PORT"),
        (["enqueue", "hello"], "the payload is not JSON: .*; for a plain string, give --text"),
        (["enqueue", "1", "--delay", "1", "--run-at", "2027-01-01T00:00:00Z"], "--delay or --run-at, not both"),
        (["enqueue", "1", "--delay", "soon"], "'soon' is not a duration"),
        (["enqueue", "1", "--run-at", "soon"], "'soon' is not a time"),
        (["enqueue", "1", "--file", "x"], "not both"),
        (["enqueue", "1", "--items"], "--items goes with --ndjson"),
        (["enqueue", "1", "--ndjson", "-"], "--ndjson takes its jobs from the lines"),
        (["get", "a", "--wait", "soon"], "or forever"),
        (["list", "--all", "--limit", "3"], "--limit or --all"),
        (["list", "--status", "done"], "'done' is not one of"),
        (["conclude", "a"], "--lease"),
        (["conclude", "a", "--lease", "b", "--result", "1", "--failed"], "--result is for a job that succeeded"),
        (["conclude", "a", "--lease", "b", "--no-retry"], "--no-retry goes with"),
        (["conclude", "a", "--lease", "b", "--text"], "--text goes with"),
        (["conclude", "a", "--lease", "b", "--result", "{"], "--result is not JSON"),
        (["retry"], "ids of jobs, or --failed"),
        (["retry", "a", "--failed", "b"], "ids of jobs, or --failed"),
        (["retry", "a", "--type", "b"], "ids of jobs, or --failed"),
        (["run"], "ID"),
        (["extend", "a"], "--lease"),
        (["extend", "a", "--lease", "b", "--progress", "2"], "2.* is not in the range"),
        (["release", "a"], "--lease"),
        (["work"], "a module or --exec"),
        (["work", "a", "--exec", "b"], "a module or --exec"),
        (["work", "--exec", "b", "--queue", "no good"], "is not a queue's name"),
        (["work", "no.such.module"], "no.such.module cannot be imported"),
    ],
)
def test_wrong_usage_is_exit_code_2(line: list[str], words: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes no sense is refused before anything is sent, with a message that says why."""
    monkeypatch.setattr("jobqueue.process.logs.set_up", lambda *_: None)
    monkeypatch.setenv("JOBQUEUE_URL", NOWHERE)
    result = run(*line)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(words, result.stderr)


def test_the_server_is_found_by_flag_then_environment_then_dotenv(run: Run, alone: Path) -> None:
    """--url wins over JOBQUEUE_URL, and that over the line in .env; the token alike."""
    with server_in_thread(token="secret") as url:
        Path(".env").write_text(f"JOBQUEUE_URL={url}\nJOBQUEUE_TOKEN=secret\nJOBQUEUE_PORT=1\n", encoding="utf-8")
        assert run("list").exit_code == 0
        assert run("list", JOBQUEUE_URL=NOWHERE).exit_code == 5
        assert run("list", "--url", url, JOBQUEUE_URL=NOWHERE).exit_code == 0
        refused = run("list", JOBQUEUE_TOKEN="wrong")
        assert refused.exit_code == 1
        assert refused.stderr.startswith("Error: unauthorized: ")
        assert run("list", "--token", "secret", JOBQUEUE_TOKEN="wrong").exit_code == 0


def test_a_server_is_trusted_by_the_file_of_its_authority(run: Run, alone: Path) -> None:
    """Over https --ca-file says whose certificates count; without it, and by another's, the server is not spoken to."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path("ca.pem")
    trustme.CA().cert_pem.write_to_path("other.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path("server.pem")
    with server_in_thread(tls_cert="server.pem", tls_key="server.pem") as served:
        url = served.replace("http:", "https:")
        for verb in (["list"], ["top", "--interval", "0.1"]):
            assert run(*verb, "--url", url, "--ca-file", "ca.pem").exit_code == 0
        for trust in ([], ["--ca-file", "other.pem"]):
            refused = run("list", "--url", url, *trust)
            assert (refused.exit_code, "certificate" in refused.stderr) == (5, True)
        with Client(url, ssl_context=ssl.create_default_context(cafile="ca.pem")) as client:
            client.enqueue(1, id="j")
            worked = run("work", "--exec", "cat", "--burst", "--url", url, "--ca-file", "ca.pem")
            assert (worked.exit_code, client.job("j").result) == (0, 1)


def test_a_file_of_certificates_that_is_none_is_exit_code_2(run: Run, alone: Path) -> None:
    """It is named, and what is wrong with it."""
    Path("text").write_text("hello", encoding="utf-8")
    for name, words in (("none.pem", "cannot be read: No such file or directory"), ("text", "holds no certificate in PEM form")):
        result = run("list", "--ca-file", name)
        assert (result.exit_code, result.stderr) == (2, f"Error: bad_setting: --ca-file {name} {words}\n")


def test_of_several_servers_one_that_answers_is_enough(run: Run, url: str) -> None:
    """Whichever is asked first, by the option as by the environment."""
    urls = ",".join([*(f"{NOWHERE}/{n}" for n in range(5)), url])
    assert run("enqueue", "1", "--url", urls).exit_code == 0
    assert run("list", JOBQUEUE_URL=urls).exit_code == 0


@pytest.mark.usefixtures("hasty")
def test_of_several_servers_all_are_named_where_none_answers(run: Run) -> None:
    """In one line."""
    result = run("list", "--url", f"{NOWHERE}/a,{NOWHERE}/b")
    assert result.exit_code == 5
    assert re.fullmatch(r"Error: connection_failed: .*\n", result.stderr)
    assert f"{NOWHERE}/a" in result.stderr
    assert f"{NOWHERE}/b" in result.stderr


def test_a_broken_dotenv_is_exit_code_2(run: Run, alone: Path) -> None:
    """A line of .env that cannot be read is named, and not passed over."""
    Path(".env").write_text("JOBQUEUE_URL\n", encoding="utf-8")
    result = run("list")
    assert result.exit_code == 2
    assert "JOBQUEUE_URL in .env, line 1: has no value" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, run: Run) -> None:
    """The script registers itself for `jobqueue` and asks it by the variable that the next test sets."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_JOBQUEUE_COMPLETE={shell}_complete" in result.stdout
    assert "jobqueue" in result.stdout


@pytest.mark.parametrize(
    ("words", "proposed"),
    [("jobqueue en", "enqueue"), ("jobqueue list --st", "--status"), ("jobqueue list --status q", "queued")],
)
def test_verbs_options_and_choices_are_completed(words: str, proposed: str, alone: Path) -> None:
    """What a shell asks for is answered with the verb, the option or the value that begins so."""
    asked = {**os.environ, "_JOBQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "from jobqueue.cli import main; main(prog_name='jobqueue')"
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [f"plain,{proposed}"]


def test_ctrl_c_is_exit_code_130(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupting a verb ends it without a traceback."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "queues", interrupted)
    result = run("stats")
    assert (result.exit_code, result.stdout) == (130, "")
