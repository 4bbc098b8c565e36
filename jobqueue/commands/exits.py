"""The exit codes of every verb."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a verb ends. A job that did not succeed is no error of the verb, so that a script can tell the two apart."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    NOTHING = 3
    UNSUCCESSFUL = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


EXITS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.ERROR: "the server refused, or something went wrong; stderr says what",
    Exit.USAGE: "wrong usage",
    Exit.NOTHING: "nothing there: the wait has passed, or the job is unknown",
    Exit.UNSUCCESSFUL: "the job that was waited for did not succeed",
    Exit.UNREACHABLE: "the server cannot be reached",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
