"""Tables of many methods on the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import MARKDOWN
from rich.text import Text

from .console import Table, console

if TYPE_CHECKING:
    from tokenlens.evaluation.comparing.tables import BudgetTable

_BETWEEN = 3
"""Characters from one column to the next."""


def print_tables(tables: "Sequence[BudgetTable]") -> None:
    """Print one table per budget, with intervals below the figures, and its notes.

    Where a table is wider than the terminal, columns of single tasks are only in the
    files. Where it is still too wide, so are the intervals of columns other than scores.
    """
    from tokenlens.evaluation.comparing.table_files import headings, lines, notes, own_notes, title

    narrowed = False
    for table in tables:
        first, *others = headings(table)
        rows = lines(table)
        widest = max(len(first), *(len(name) for name, _ in rows))
        detail = _detail(table, [cells for _, cells in rows], others, console.width - widest)
        narrowed |= len(detail) < len(others)
        shown = Table(title=title(table), title_justify="left", box=MARKDOWN)
        shown.add_column(first, no_wrap=True)
        for place, shown_lines in detail.items():
            shown.add_column(
                others[place],
                justify="right",
                overflow="fold",
                max_width=_width(others[place], [cells[place] for _, cells in rows], shown_lines),
            )
        for name, cells in rows:
            texts = []
            for place, shown_lines in detail.items():
                figure, interval, best = cells[place]
                below = "\n".join((figure, interval)[:shown_lines])
                texts.append(Text(below, "bold green" if best else ""))
            shown.add_row(name, *texts)
        console.print()
        console.print(shown, soft_wrap=False)
        for note in own_notes(table):
            console.print(f"- {note}")
    console.print()
    if narrowed:
        console.print("- The tasks one by one are in the files, or in a wider terminal.")
    for note in notes(tables[0]):
        console.print(f"- {note}")


def _detail(
    table: "BudgetTable",
    rows: Sequence[Sequence[tuple[str, str, bool]]],
    names: Sequence[str],
    room: int,
) -> dict[int, int]:
    """The columns to show, with the lines of each: 1 for the figure, 2 for its interval too."""
    from tokenlens.evaluation.comparing.tables import LOCALISATION, OTHER

    averages = {
        place for place, column in enumerate(table.columns) if column.name in (LOCALISATION, OTHER)
    }
    scores = {place for place, column in enumerate(table.columns) if column.kind == "score"}
    everything = dict.fromkeys(range(len(names)), 2)
    without_tasks = {
        place: 2 for place in everything if not averages or place in averages or place not in scores
    }
    brief = {place: 2 if place in scores else 1 for place in without_tasks}

    def width(detail: dict[int, int]) -> int:
        return sum(
            _BETWEEN + _width(names[place], [cells[place] for cells in rows], shown_lines)
            for place, shown_lines in detail.items()
        )

    ways = (everything, without_tasks, brief)
    return next((way for way in ways if width(way) + _BETWEEN <= room), brief)


def _width(name: str, cells: Sequence[tuple[str, str, bool]], shown_lines: int) -> int:
    """Width in characters of a heading's words and of the lines below it."""
    texts = [text for figure, interval, _ in cells for text in (figure, interval)[:shown_lines]]
    return max(map(len, [*name.split(), *texts]))
