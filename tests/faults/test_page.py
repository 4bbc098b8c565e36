"""docs/faults.md and the tests say the same: which fault has which number, and which test shows it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \|.*\| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def numbered(path: Path) -> set[int]:
    """The numbers of faults that a file's tests have in their names."""
    return {int(number) for number in re.findall(r"^(?:async )?def test_(\d\d)_", path.read_text(encoding="utf-8"), re.MULTILINE)}


def test_each_fault_is_shown_by_the_tests_that_its_row_names() -> None:
    """A row names files with tests of its number, or tests and files that are there; every numbered test has its row."""
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    rows = {int(number): LINK.findall(shown) for number, _, shown in ROW.findall(page)}
    assert len(rows) == len(ROW.findall(page)) > 50
    for number, links in rows.items():
        assert links, number
        for text, target in links:
            assert text.startswith("test_") or target == f"tests/{text}"
            assert not text.startswith("test_") or f"def {text}(" in (ROOT / target).read_text(encoding="utf-8"), (number, text)
            assert not target.startswith("tests/faults/") or text.startswith("test_") or number in numbered(ROOT / target), number
    found = {number: path.name for path in sorted(ROOT.glob("tests/faults/test_*.py")) for number in numbered(path)}
    assert {number: name for number, name in found.items() if number not in rows} == {}
