"""The exit codes of all commands."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ends. A job that did not succeed has a code of its own, so that a script can distinguish it from an error of the
    command.
    """

    DONE = 0
    ERROR = 1
    USAGE = 2
    NOTHING = 3
    UNSUCCESSFUL = 4
    UNREACHABLE = 5
    REFUSED = 6
    INTERRUPTED = 130


EXITS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.ERROR: "the server refused, or something went wrong; stderr says what",
    Exit.USAGE: "wrong usage",
    Exit.NOTHING: "nothing found: the wait is over, or the job is unknown",
    Exit.UNSUCCESSFUL: "the job that the command waited for did not succeed",
    Exit.UNREACHABLE: "the server cannot be reached",
    Exit.REFUSED: "`work`: the token is wrong, or there is no jobqueue server at the URL",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
