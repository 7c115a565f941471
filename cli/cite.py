"""`tokenlens cite`: the publications behind results, as BibTeX entries."""

from pathlib import Path
from typing import Annotated

import typer

from .console import cautions, lines, wrote
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("cite", epilog="Example: tokenlens cite --out references.bib")(cite)


def cite(
    found: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RESULTS]...",
            help="Directories that profile, run, information or tune wrote, and schedule files; "
            "default: the newest under ./tokenlens-out.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write, its name ending in .bib; default: none.")
    ] = None,
) -> None:
    """Print what to cite for results: SwiftVLM, and their methods, importances and models."""
    from tokenlens.storage.files import write_text
    from tokenlens.storage.output_claims import bib_target
    from tokenlens.storage.output_paths import find_runs

    target = bib_target(out) if out else None
    paths = found or find_runs([]).directories

    from tokenlens.reports.citations import result_citations

    cited = result_citations(paths)
    results(references=cited.references, missing=cited.missing, bibtex=cited.bibtex)
    if target is None:
        lines(cited.bibtex.rstrip())
    else:
        write_text(target, cited.bibtex)
        wrote(f"{len(cited.references)} BibTeX entries", out)
        cautions(cited.missing)
