"""docs/troubleshooting.md has a row for each error code, and for each message logged at warning or above."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobqueue.api.problems import PROBLEMS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jobqueue"
PAGE = ROOT / "docs/troubleshooting.md"
LOUD = {"warning", "error", "critical", "exception"}
PLACEHOLDER = re.compile(r"%[-+#.\d]*[a-z]|\{[^}]*\}")


class Said(NamedTuple):
    """A message that is logged, and where. text: with … for each value, or None where it does not stand in the call."""

    where: str
    text: str | None


HANDED_ON = {
    "jobqueue/backend/store/remote.py": ["the server at …, which owns the queue, cannot be reached: …"],
    "jobqueue/worker/bell.py": [
        "the server is away, trying again until it is back: …",
        "the server cannot store changes (its disk may be full), trying again until it can: …",
        "the server is shutting down, trying again until it is back: …",
        "the server is at one of its limits, trying again until there is room: …",
        "something other than a jobqueue server answers, trying again until the server does: …",
        "the server answers with an error, trying again until it works: …",
    ],
    "jobqueue/worker/worker.py": [
        "the server does not accept the token: …; set another with --token or JOBQUEUE_TOKEN",
        "the server does not let this worker take jobs: …",
        "no jobqueue server answers at this URL, check its host, port and path: …",
        "the server refuses to give this worker jobs: …",
    ],
    "jobqueue/worker/shutdown.py": [
        "the event loop is blocked, perhaps by a handler; exiting without releasing jobs; their leases will end",
        "third signal: exiting at once without releasing jobs; their leases will end",
        "exiting although … threads have not ended: …",
    ],
}
"""Files in which a call to the log gets its text from elsewhere, and the texts that it gets, each as a literal of that file or of
refusals.py, perhaps without the error at its end."""


def shown(text: str) -> str:
    """A message as the page has it: … for each value."""
    return PLACEHOLDER.sub("…", text)


def texts(node: ast.expr) -> list[str | None]:
    """The messages that the first argument of a call may be."""
    match node:
        case ast.Constant(value=str(text)) if text != "%s":
            return [shown(text)]
        case ast.JoinedStr(values=parts):
            return [shown("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts))]
        case ast.IfExp(body=one, orelse=other):
            return texts(one) + texts(other)
    return [None]


def loud(call: ast.Call) -> ast.expr | None:
    """The message of a call that logs at warning or above, if this is one."""
    if not isinstance(call.func, ast.Attribute) or "logger" not in ast.unparse(call.func.value).lower() or not call.args:
        return None
    if call.func.attr in LOUD:
        return call.args[0]
    if call.func.attr == "log" and re.search("WARNING|ERROR|CRITICAL", ast.unparse(call.args[0])):
        return call.args[1]
    return None


def logged(source: str, where: str) -> Iterator[Said]:
    """What a file logs at warning or above."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (message := loud(node)) is not None:
            for text in texts(message):
                yield Said(f"{where}:{node.lineno}", text)


def everything_logged() -> list[Said]:
    """What the package logs at warning or above."""
    found: list[Said] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        where = str(path.relative_to(ROOT))
        for said in logged(path.read_text(), where):
            found += [said] if said.text is not None else [Said(said.where, text) for text in HANDED_ON.get(where, [None])]
    return found


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables under a heading of the page and under those below it, cell by cell."""
    part = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = (one for one in part if one.startswith(heading))
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]


def first(cell: str) -> str:
    """What stands between the first backticks of a cell."""
    found = re.match(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


def test_every_code_has_its_row() -> None:
    """Each code that the API answers has one row that says why and what to do, with its status, and no other code has."""
    told = {first(row[0]): row for row in rows("Answers of the API")}

    for code, entry in PROBLEMS.items():
        assert code in told, f"docs/troubleshooting.md: add below 'Answers of the API': | `{code}` | {entry.status} | why | what to do |"
        assert told[code][1] == str(entry.status), code
        assert list(map(bool, told[code])) == [True] * 4, f"docs/troubleshooting.md: `{code}` needs a cause and a cure"
    assert not set(told) - set(PROBLEMS), "docs/troubleshooting.md: delete the rows of these codes, which nothing answers"


def test_every_exception_of_the_clients_has_its_row() -> None:
    """Each code that only the clients have, for want of an answer say, has one row."""
    found = set(re.findall(r'^    code = "(\w+)"$', (PACKAGE / "client/problems.py").read_text(), re.MULTILINE))
    told = [first(row[0]) for row in rows("What the clients raise")]

    assert sorted(told) == sorted(found), "docs/troubleshooting.md: one row below 'What the clients raise' for each of the codes"


@pytest.mark.parametrize("said", everything_logged(), ids=lambda said: f"{said.where} {said.text}")
def test_every_loud_message_has_its_row(said: Said) -> None:
    """Each message that is logged at warning or above has a row that says why it comes and what to do."""
    assert said.text is not None, (
        f"{said.where} logs a text that does not stand in the call: write it there, or name the texts that it may be in HANDED_ON, "
        "in tests/test_troubleshooting.py"
    )
    room = "the Worker" if said.where.startswith("jobqueue/worker/") else "the server"
    told = {first(row[0]): row for row in rows("What the server logs") + rows("What the Worker logs")}
    assert said.text in told, (
        f"docs/troubleshooting.md has no row for what {said.where} logs. "
        f"Add below 'What {room} logs': | `{said.text}` | why it comes | what to do |"
    )
    assert list(map(bool, told[said.text])) == [True] * 3, f"docs/troubleshooting.md: {said.text!r} needs a cause and a cure"


def test_no_row_is_left_over() -> None:
    """No row tells of a message that nothing logs, and none comes twice."""
    told = [first(row[0]) for row in rows("What the server logs") + rows("What the Worker logs")]

    left = set(told) - {said.text for said in everything_logged()}
    assert not left, f"docs/troubleshooting.md: nothing logs these any more, so delete or reword their rows: {sorted(left)}"
    assert len(told) == len(set(told))


def test_handed_on_texts_are_said() -> None:
    """Each text of HANDED_ON is a literal of its file, or of the one that has them for the Worker."""
    for where, texts_of in HANDED_ON.items():
        said = set()
        for path in (where, "jobqueue/worker/refusals.py"):
            tree = ast.parse((ROOT / path).read_text())
            said |= {text for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr) for text in texts(node)}
        assert {text for text in texts_of if not {text, text.removesuffix(": …")} & said} == set(), where


def test_a_new_message_is_found() -> None:
    """A warning in any form is seen: a literal, a format, either of two, at a level; an info is not."""
    source = (
        "_logger.warning('full: %s', x)\nlogger.error(f'no {x!r} here')\nlogger.critical('a' if x else 'b')\n"
        "_logger.exception('broke')\n_logger.log(logging.WARNING if x else logging.INFO, 'late')\n_logger.info('fine')\nself.warning('x')\n"
        "_logger.warning(x)\n"
    )

    assert [said.text for said in logged(source, "x.py")] == ["full: …", "no … here", "a", "b", "broke", "late", None]
