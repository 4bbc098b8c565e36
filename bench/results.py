"""bench/results.md: what the parts of a full run found, each where the last run of it left it."""

from __future__ import annotations

import re
from pathlib import Path

PARTS = ("peers", "budgets", "growth", "scale", "partitions", "flow", "sqs")
RESULTS = Path(__file__).parent / "results.md"

_HEAD = """\
# What was measured

By `python -m bench`, part by part; each says when, and on what machine. Trust ratios, not absolute figures.
"""


def replaced(whole: str, part: str, text: str) -> str:
    """The file with another text for one of its parts, whose headings go one level down."""
    found = dict(re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->\n", whole, re.DOTALL))
    found[part] = re.sub(r"^(#+ )", r"#\1", text.strip() + "\n", flags=re.MULTILINE)
    parts = (f"\n<!-- begin {name} -->\n{found[name]}<!-- end {name} -->\n" for name in PARTS if name in found)
    return _HEAD + "".join(parts)


def write(part: str, text: str) -> None:
    """Put a part into the file, and say so."""
    RESULTS.write_text(replaced(RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "", part, text), encoding="utf-8")
    print(f"written to {RESULTS}")
