"""The `.env` file: what is read from it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobqueue.process.config import BadSetting, Settings, load


def read(folder: Path, text: str) -> Settings:
    path = folder / ".env"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return load({}, {}, path)


@pytest.mark.parametrize("line", ["JOBQUEUE_TOKEN={}", 'JOBQUEUE_TOKEN="{}"', "JOBQUEUE_TOKEN='{}'", "export JOBQUEUE_TOKEN={} # why"])
@pytest.mark.parametrize("token", ["abc", "a$HOME", "a${JOBQUEUE_PORT}b", "a#b"])
def test_a_value_is_taken_as_it_stands(line: str, token: str, tmp_path: Path) -> None:
    """Quotes, `export` and comments are as everywhere, and a dollar sign means itself."""
    assert read(tmp_path, f"JOBQUEUE_PORT=81\n{line.format(token)}\n").token == token


def test_the_last_of_two_lines_counts(tmp_path: Path) -> None:
    """A variable given twice has its last value."""
    assert read(tmp_path, "JOBQUEUE_PORT=81\nJOBQUEUE_PORT=82\n").port == 82


def test_other_peoples_lines_are_left_alone(tmp_path: Path) -> None:
    """Lines of other programs, a client's JOBQUEUE_URL and comments are no settings of ours, well-formed or not."""
    text = "DATABASE_URL=postgres://\nJOBQUEUE_URL=http://localhost\n# JOBQUEUE_PORT is 1\n=what\nJOBQUEUE_PORT=81\nPLAIN\n"
    assert read(tmp_path, text).port == 81


@pytest.mark.parametrize("name", ["JOBQUEUE_MAX_JOB", "jobqueue_port", "JOBQUEUE_"])
def test_a_line_that_is_no_setting_is_refused(name: str, tmp_path: Path) -> None:
    """A misspelt setting is refused with its line, not ignored."""
    with pytest.raises(BadSetting, match=rf"^\.env, line 4: {name} is not a setting"):
        read(tmp_path, f"A=1\n\n\n{name}=5\n")


def test_a_line_without_a_value_is_refused(tmp_path: Path) -> None:
    """A variable without `=` is refused."""
    with pytest.raises(BadSetting, match=r"^JOBQUEUE_TOKEN in \.env, line 1: has no value"):
        read(tmp_path, "JOBQUEUE_TOKEN\n")


def test_a_line_that_cannot_be_read_is_refused_without_showing_it(tmp_path: Path) -> None:
    """A quote that is not closed is refused with its line; the message does not hold what may be a token."""
    with pytest.raises(BadSetting, match=r"^\.env, line 2: cannot be read; write NAME=value$"):
        read(tmp_path, 'A=1\nJOBQUEUE_TOKEN="secret\n')


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused, naming the file."""
    with pytest.raises(BadSetting, match=r"^\.env cannot be read: .*utf-8"):
        read(tmp_path, "JOBQUEUE_TOKEN=\udcff\n")


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    """A `.env` that is no file is refused, naming it."""
    (tmp_path / ".env").mkdir()
    with pytest.raises(BadSetting, match=r"^\.env cannot be read: "):
        load({}, {}, tmp_path / ".env")
