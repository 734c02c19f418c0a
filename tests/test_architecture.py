"""docs/architecture.md names the house as it stands: files that exist, packages in the order of their floors."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_imports import FLOOR, PACKAGE, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
FILES |= {
    path.relative_to(ROOT).as_posix() for folder in ("tests", "search_spaces") for path in (ROOT / folder).rglob("*.py")
}


def named_files(page: str) -> set[str]:
    """Files that the page names; not those of the first design, which a table holds against what is here."""
    rows = (re.sub(r"^\|[^|]*\|", "", line) for line in page.splitlines())
    return set(re.findall(r"(?:\w+/)*\w+\.py\b", "\n".join(rows)))


def tree(page: str) -> list[str]:
    """What stands in the first drawing of "The house", from top to bottom; files without their ending."""
    drawing = page.split("## The house", 1)[1].split("```")[1]
    lines = [line for line in drawing.splitlines() if re.match(r"  \w", line)]
    return [name.removesuffix(".py") for line in lines for name in re.findall(r"(\w+(?:/|\.py))(?=\s|$)", line)]


def test_every_file_that_is_named_exists():
    names = {Path(file).name for file in FILES}
    assert [one for one in sorted(named_files(PAGE)) if one not in FILES and ("/" in one or one not in names)] == []


def test_the_tree_has_every_package_and_module_at_the_top_in_the_order_of_the_floors():
    drawn = [name.removesuffix("/") for name in tree(PAGE)]
    assert sorted(drawn) == sorted(FLOOR)
    floors = [FLOOR[name] for name in drawn]
    assert floors == sorted(floors, reverse=True)


def test_a_file_that_is_gone_is_seen():
    assert named_files("see `search/nothing.py`, and\n| `search/design.py` | `search/here.py` |") == {
        "search/nothing.py",
        "search/here.py",
    }
