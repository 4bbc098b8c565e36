"""docs/operations.md says what the settings table says."""

from __future__ import annotations

from pathlib import Path

from jobqueue.api.problems import PROBLEMS
from jobqueue.process.config import SETTINGS, markdown

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_page_holds_the_generated_tables() -> None:
    """Every setting is documented, in the words of the table; `python -m jobqueue.process.config` prints what to paste."""
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- settings: python -m jobqueue.process.config -->\n", "\n<!-- end of settings -->"
    assert text.count(start) == text.count(end) == 1
    assert text.partition(start)[2].partition(end)[0] == markdown()
    for setting in SETTINGS:
        assert f"| `{setting.flag}` | `{setting.variable}` | {setting.default} |" in text


def test_every_answer_named_on_the_page_exists() -> None:
    """An answer that the page promises for a bound has that status in the server's table of problems."""
    named = [word for setting in SETTINGS for word in setting.beyond.split(";") if "`" in word]
    assert named
    for answer in named:
        status, code = answer[: answer.rindex("`")].split("`")
        assert str(PROBLEMS[code].status) == status.split()[-1]
