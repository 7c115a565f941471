"""The table of `python -m tests.exactness` is of every family, and what it says holds."""

from tests.exactness import COLUMNS, PAGE, row
from tests.support.families import FAMILIES


def cells(line):
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def check(found):
    by_name = dict(zip(COLUMNS, found, strict=True))
    assert by_name["keep everything"] == "identical"
    assert by_name["choices"].startswith("0 of ")
    for column in ("probe", "drop", "merge", "recycle", "bypass", "freeze", "combinations"):
        assert float(by_name[column]) < 1e-10
    assert float(by_name["control"]) > 1e-6


def test_the_page_has_a_row_for_every_family():
    table = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert cells(table[0]) == list(COLUMNS)
    rows = list(map(cells, table[2:]))
    assert [found[0] for found in rows] == list(FAMILIES)
    for found in rows:
        check(found)


def test_a_row_is_measured():
    found = row("LLaVA-1.5")
    assert found[0] == "LLaVA-1.5"
    check(found)
