"""The verbs of `jobqueue token`, and the file they keep."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.commands.tokens import token_command
from jobqueue.process import tokens

DIGEST = "0" * 64
TOKEN = re.compile(r"jq_[A-Za-z0-9_-]{43}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no variable that names a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBQUEUE_TOKEN_FILE", raising=False)
    return tmp_path


def token(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(token_command, arguments, env=environ)


def made(name: str, *arguments: str) -> str:
    """A new token in the file."""
    result = token("new", "--name", name, "--file", "tokens", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_new_token_is_printed_once_and_kept_nowhere() -> None:
    """Standard output has the token and nothing else, the file its SHA-256; 256 random bits, another each time."""
    first, second = made("a", "--scope", "read"), made("b", "--scope", "read")
    assert first != second
    text = Path("tokens").read_text()
    for secret in (first, second):
        assert TOKEN.fullmatch(secret)
        assert secret not in text
        assert hashlib.sha256(secret.encode()).hexdigest() in text


def test_what_was_asked_for_is_what_the_server_reads() -> None:
    """Name, scopes and queues, in a file that begins with what its columns are."""
    secret = made("ci", "--scope", "enqueue", "--scope", "read", "--scope", "read", "--queue", "mail.*", "--queue", "bills")
    made("ops", "--scope", "admin")
    ci, ops = tokens.read("tokens")
    assert (ci.name, ci.scopes, ci.queues) == ("ci", {Scope.ENQUEUE, Scope.READ}, ("mail.*", "bills"))
    assert ci.digest == hashlib.sha256(secret.encode()).digest()
    assert (ops.name, ops.scopes, ops.queues) == ("ops", set(SCOPES), ())
    assert Path("tokens").read_text().startswith("# name ")


def test_a_pattern_for_every_queue_is_no_pattern() -> None:
    """So a token that holds for every queue costs no look at each."""
    made("a", "--scope", "read", "--queue", "mail", "--queue", "*")
    assert tokens.read("tokens")[0].queues == ()


def test_the_file_is_its_owners_alone_and_keeps_what_it_was_given() -> None:
    """0600 when it is made; whoever opens it further keeps that, a link stays a link, and other lines stay as they are."""
    made("a", "--scope", "read")
    assert stat.S_IMODE(os.stat("tokens").st_mode) == 0o600
    os.chmod("tokens", 0o640)
    os.rename("tokens", "real")
    os.symlink("real", "tokens")
    Path("real").write_text(Path("real").read_text() + "\n   # a comment \n")
    made("b", "--scope", "read")
    assert token("revoke", "a", "--file", "tokens").exit_code == 0
    assert Path("tokens").is_symlink()
    assert stat.S_IMODE(os.stat("real").st_mode) == 0o640
    assert "   # a comment \n" in Path("real").read_text()
    assert [grant.name for grant in tokens.read("tokens")] == ["b"]
    assert sorted(os.listdir()) == ["real", "tokens"]


def test_a_file_without_a_last_line_end_is_added_to() -> None:
    """Its last line and the new one stay two."""
    Path("tokens").write_text(f"old read * {DIGEST}")
    made("new", "--scope", "read")
    assert [grant.name for grant in tokens.read("tokens")] == ["old", "new"]


def test_list_shows_names_scopes_and_queues() -> None:
    """No hash, no token."""
    made("ci", "--scope", "enqueue", "--queue", "mail.*")
    made("ops", "--scope", "admin")
    result = token("list", "--file", "tokens")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "SCOPES", "QUEUES"],
        ["ci", "enqueue", "mail.*"],
        ["ops", "admin", "*"],
    ]


def test_a_revoked_token_is_gone() -> None:
    """Its line; the name is free again, for another token."""
    first = made("ci", "--scope", "read")
    assert token("revoke", "ci", "--file", "tokens").exit_code == 0
    assert tokens.read("tokens") == []
    assert made("ci", "--scope", "read") != first


def test_without_a_file_the_line_is_printed() -> None:
    """On standard error, ready to be added; the token on standard output as ever."""
    result = token("new", "--name", "ci", "--scope", "dequeue", "--queue", "mail")
    line = result.stderr.splitlines()[-1]
    assert line == f"ci  dequeue  mail  {hashlib.sha256(result.stdout.strip().encode()).hexdigest()}"
    Path("tokens").write_text(line)
    assert tokens.read("tokens")[0].queues == ("mail",)


def test_the_file_may_be_named_as_for_the_server() -> None:
    """By the variable or in `.env`; a flag wins."""
    Path(".env").write_text("JOBQUEUE_TOKEN_FILE=from-env-file\n")
    assert token("new", "--name", "a", "--scope", "read").exit_code == 0
    assert token("new", "--name", "b", "--scope", "read", JOBQUEUE_TOKEN_FILE="from-variable").exit_code == 0
    assert token("new", "--name", "c", "--scope", "read", "--file", "from-flag", JOBQUEUE_TOKEN_FILE="from-variable").exit_code == 0
    assert [[grant.name for grant in tokens.read(f"from-{where}")] for where in ("env-file", "variable", "flag")] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "--name", "a b", "--scope", "read"], "invalid token name 'a b'"),
        (["new", "--name", "--token", "--scope", "read"], "invalid token name '--token'"),
        (["new", "--name", "", "--scope", "read"], "invalid token name ''"),
        (["new", "--name", "x" * 65, "--scope", "read"], "invalid token name"),
        (["new", "--name", "taken", "--scope", "read", "--file", "tokens"], "a token named taken already exists"),
        (["new", "--name", "a", "--scope", "write"], "unknown scope 'write': use enqueue, dequeue, read, admin"),
        (["new", "--name", "a", "--scope", "public"], "unknown scope 'public'"),
        (["new", "--name", "a", "--scope", "read", "--queue", "a b"], "'a b' is not a pattern"),
        (["new", "--name", "a", "--scope", "read", "--queue", "a,,b"], "'' is not a pattern"),
        (["new", "--name", "a", "--scope", "read", "--file", "none/tokens"], "its folder cannot be opened: No such file"),
        (["revoke", "nobody", "--file", "tokens"], "there is no token named 'nobody'"),
        (["revoke", "a", "--file", "none"], "none: cannot be read: No such file"),
        (["list", "--file", "none"], "none: cannot be read: No such file"),
        (["list", "--file", "."], "cannot be read: Is a directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], words: str) -> None:
    """With the reason, exit code 1, nothing on standard output, and the file as it was."""
    Path("tokens").write_text(f"taken read * {DIGEST}\n")
    result = token(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert Path("tokens").read_text() == f"taken read * {DIGEST}\n"


@pytest.mark.parametrize("arguments", [["new", "--name", "a"], ["new", "--scope", "read"], ["list"], ["revoke", "a"], ["revoke"]])
def test_what_is_left_out_is_asked_for(arguments: list[str]) -> None:
    """Exit code 2, as for every wrong usage."""
    assert token(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a read *", "has 3 words"),
        (f"a read * {DIGEST} x", "has 5 words"),
        (f"a read, * {DIGEST}", "unknown scope ''"),
        (f"a Read * {DIGEST}", "unknown scope 'Read'"),
        (f"a read ( {DIGEST}", "'(' is not a pattern"),
        (f"a read * {DIGEST[1:]}", "is not a SHA-256"),
        (f"a read * {'G' * 64}", "is not a SHA-256"),
        (f"a read * {'A' * 64}", "is not a SHA-256"),
        ("a read * jq_" + "x" * 43, "is not a SHA-256"),
        (f"first read * {'1' * 64}", "has the name of line 2"),
        (f"other admin * {DIGEST}", "has the token of line 2"),
        ("\x00", "has 1 words"),
    ],
)
def test_a_bad_line_is_named(line: str, words: str) -> None:
    """File, number and reason, and never the line's last word, which may be a token that someone put there."""
    Path("tokens").write_text(f"# heading\nfirst read * {DIGEST}\n\n{line}\n")
    with pytest.raises(tokens.BadTokens) as raised:
        tokens.read("tokens")
    assert str(raised.value).startswith("tokens, line 4: ")
    assert words in str(raised.value)
    assert "jq_" not in str(raised.value)


def test_a_file_that_is_no_text_or_too_large_is_refused() -> None:
    """Before it is looked at line by line."""
    Path("tokens").write_bytes(b"\xff\xfe")
    with pytest.raises(tokens.BadTokens, match="is not UTF-8"):
        tokens.read("tokens")
    Path("tokens").write_text("#" * (tokens.FILE_BYTES_MAX + 1))
    with pytest.raises(tokens.BadTokens, match="is larger than"):
        tokens.read("tokens")


def test_a_line_may_be_written_by_hand() -> None:
    """Spaces and tabs, in any number; comments and empty lines."""
    Path("tokens").write_text(f"\t a\tread,enqueue   q?.[a-c],[!qx]*\t {DIGEST}  \r\n#\n\n")
    (grant,) = tokens.read("tokens")
    assert (grant.name, grant.scopes) == ("a", {Scope.READ, Scope.ENQUEUE})
    assert [grant.sees(name) for name in ("q1.b", "q1.d", "y", "x")] == [True, False, True, False]


def test_tokens_made_at_once_are_all_there() -> None:
    """Each reads and replaces the file while nobody else does."""

    def make(number: int) -> None:
        tokens.make("tokens", f"t{number}", ["read"], [])

    threads = [threading.Thread(target=make, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {grant.name for grant in tokens.read("tokens")} == {f"t{number}" for number in range(20)}
    assert os.listdir() == ["tokens"]
