"""Tables of many methods on the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import MARKDOWN
from rich.table import Table
from rich.text import Text

from .console import console

if TYPE_CHECKING:
    from tokenlens.evaluation.tables import BudgetTable


def print_tables(tables: "Sequence[BudgetTable]") -> None:
    """Print one table per budget, intervals below their figures, and what must be said of each."""
    from tokenlens.evaluation.table_files import headings, lines, notes, own_notes, title

    for table in tables:
        first, *others = headings(table)
        shown = Table(title=title(table), title_justify="left", box=MARKDOWN)
        shown.add_column(first, no_wrap=True)
        for heading in others:
            shown.add_column(heading, justify="right")
        for name, cells in lines(table):
            texts = [
                Text(f"{figure}\n{interval}", "bold green" if best else "")
                for figure, interval, best in cells
            ]
            shown.add_row(name, *texts)
        console.print()
        console.print(shown, soft_wrap=False)
        for note in own_notes(table):
            console.print(f"- {note}")
    console.print()
    for note in notes(tables[0]):
        console.print(f"- {note}")
