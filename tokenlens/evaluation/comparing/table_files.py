"""Tables of a comparison as Markdown, CSV and LaTeX files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tokenlens.evaluation.comparing.tables import (
    AGREEMENT,
    LOCALISATION,
    MACS,
    OTHER,
    TIME,
    TOKENS,
    BudgetTable,
    Cell,
    Column,
)
from tokenlens.storage.files import write_text
from tokenlens.wording.figures import value_and_interval
from tokenlens.wording.printable import printable
from tokenlens.wording.table_text import csv_text, markdown_text

NAMES = ("table.md", "table.csv", "table.tex")
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\N{EN DASH}": "--",
    }
)


def write_tables(directory: Path, tables: Sequence[BudgetTable]) -> list[Path]:
    """Write the tables into a directory of results, each file whole or not at all."""
    texts = (markdown(tables), comma_separated(tables), latex(tables))
    for name, text in zip(NAMES, texts, strict=True):
        write_text(directory / name, text)
    return [directory / name for name in NAMES]


def title(table: BudgetTable) -> str:
    """The title of a table."""
    return f"Budget: {table.budget}" if table.budget else "Pruned against unpruned"


def headings(table: BudgetTable) -> list[str]:
    """The headings of the columns, that of the methods first."""
    return ["method", *(_heading(column) for column in table.columns)]


def lines(table: BudgetTable) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Per row its name; per cell the figure, its interval in brackets, and whether it is best.

    Scores, MACs and times are per cent of the unpruned model's; its own are per cent (scores),
    G (MACs) and ms (times).
    """
    rows = [("unpruned", table.unpruned, True)]
    rows += [(name, cells, False) for name, cells in table.rows.items()]
    return [
        (
            name,
            [
                (*_texts(cell, column, own=own), cell.best)
                for cell, column in zip(cells, table.columns, strict=True)
            ],
        )
        for name, cells, own in rows
    ]


def notes(table: BudgetTable) -> list[str]:
    """Notes on how to read a table, one or two sentences each."""
    units = {
        "score": "its own scores in %",
        "tokens": "visual tokens",
        "macs": "MACs in G",
        "time": "prefill in ms",
    }
    kinds = {column.kind for column in table.columns}
    *first, last = (text for kind, text in units.items() if kind in kinds)
    said = [
        f"Unpruned: {', '.join(first)} and {last}, per sample; "
        "methods: in % of these, tokens as they are. In brackets 95 % paired bootstrap intervals, "
        "samples drawn anew within their task."
    ]
    for column in table.columns:
        if column.name in (LOCALISATION, OTHER):
            said.append(
                f"The {column.name} is the ratio of the macro averages over "
                f"{', '.join(column.tasks)}."
            )
        if column.name == AGREEMENT:
            said.append(
                "Not all samples are scored: scores are of those that are, and agreement, "
                f"the share of answers that are the unpruned model's own, of all {column.samples} "
                "(macro average over tasks)."
            )
    said.append(
        "Bold: the best of its column, where the 95 % interval of its paired difference from every "
        "other method of this table excludes zero, one by one, not corrected for how many there "
        "are. Tokens and MACs are not marked: the budget sets them."
    )
    if table.timed:
        said.append(f"Prefill was timed {table.timed}; its intervals resample the batches.")
    return said


def own_notes(table: BudgetTable) -> list[str]:
    """Notes on this table only, not on the others of its comparison."""
    said = [f"Layers of {table.layers}."] if table.layers else []
    return said + [f"Left out: {method}: {reason}." for method, reason in table.left_out.items()]


def markdown(tables: Sequence[BudgetTable]) -> str:
    """The tables in Markdown, each with its notes below it."""
    parts = []
    for table in tables:
        rows = [headings(table), ["---", *["---:"] * len(table.columns)]]
        for name, cells in lines(table):
            texts = [f"{figure} {interval}".rstrip() for figure, interval, _ in cells]
            marks = ["**" if best else "" for _, _, best in cells]
            bold = [f"{mark}{text}{mark}" for mark, text in zip(marks, texts, strict=True)]
            rows.append([markdown_text(name), *bold])
        rows[0] = [markdown_text(heading) for heading in rows[0]]
        parts += [f"### {title(table)}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
        said = (*notes(table), *own_notes(table))
        parts.append("\n".join(f"- {markdown_text(note, code=True)}" for note in said))
    return "\n\n".join(parts) + "\n"


def comma_separated(tables: Sequence[BudgetTable]) -> str:
    """The figures of all tables, a line each, unrounded: shares, tokens, MACs and seconds.

    Columns: budget, method, column, kind, samples, value, low, high, best. The unpruned model's are
    its own figures, a method's scores, MACs and times are shares of them. Names are as `csv_text`
    writes them.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["budget", "method", "column", "kind", "samples", "value", "low", "high", "best"]
    )
    for table in tables:
        for name, cells in (("unpruned", table.unpruned), *table.rows.items()):
            for column, cell in zip(table.columns, cells, strict=True):
                numbers = ["" if cell.empty else f"{number:.6g}" for number in _numbers(cell)]
                about = (csv_text(table.budget), csv_text(name), csv_text(column.name))
                writer.writerow([*about, column.kind, column.samples, *numbers, int(cell.best)])
    return stream.getvalue()


def latex(tables: Sequence[BudgetTable]) -> str:
    r"""The tables in LaTeX, for a document that uses `booktabs`."""
    parts = []
    for table in tables:
        head = " & ".join(_escaped(name) for name in headings(table))
        body = [
            " & ".join([_escaped(name), *(_printed(*cell) for cell in cells)]) + r" \\"
            for name, cells in lines(table)
        ]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering\footnotesize",
                    rf"\caption{{{_escaped(title(table))}}}",
                    rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
                    r"\toprule",
                    rf"{head} \\",
                    r"\midrule",
                    body[0],
                    r"\midrule",
                    *body[1:],
                    r"\bottomrule",
                    r"\end{tabular}",
                    *(rf"\par {_escaped(note)}" for note in (*notes(table), *own_notes(table))),
                    r"\end{table}",
                ]
            )
        )
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def _heading(column: Column) -> str:
    """Heading of a column; a task's heading includes its number of samples."""
    named = (LOCALISATION, OTHER, TOKENS, MACS, TIME)
    return column.name if column.name in named else f"{column.name} ({column.samples})"


def _texts(cell: Cell, column: Column, *, own: bool) -> tuple[str, str]:
    """A figure and its interval as text."""
    shares = {"score": 100.0, "agreement": 100.0, "tokens": 1.0, "macs": 1e-9, "time": 1e3}
    scale = shares[column.kind] if own or column.kind == "tokens" else 100.0
    return value_and_interval(*_numbers(cell), scale=scale, digits=_digits(column, own))


def _digits(column: Column, own: bool) -> int:
    return 3 if own and column.kind == "macs" else 1


def _numbers(cell: Cell) -> tuple[float, float, float]:
    return cell.value, cell.low, cell.high


def _printed(figure: str, interval: str, best: bool) -> str:
    text = _escaped(figure)
    text = rf"\textbf{{{text}}}" if best else text
    return rf"{text} {{\scriptsize {_escaped(interval)}}}" if interval else text


def _escaped(text: str) -> str:
    """Text escaped so that LaTeX prints it unchanged."""
    return printable(text).translate(_ESCAPES)
