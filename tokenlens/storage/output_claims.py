"""Checks of output paths: only files that tokenlens wrote, of the same kind, are replaced."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenlens.errors import OutputError, ResultsError
from tokenlens.storage.seals import read_sealed, write_sealed

MANIFEST = "manifest.json"
_SCHEDULE_KEYS = {"schema", "method", "model"}
_REPORT_MARK = b'<meta name="generator" content="tokenlens">'
_REPORT_KIND = "report"
_FIGURES_KIND = "figures"
BIB_MARK = "% Publications of a result of tokenlens, to cite beside it."
"""The first line of a `.bib` file of tokenlens."""
_FIGURE_MARKS = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<svg"}


def schedule_target(path: Path) -> Path:
    """The file to write a schedule to: `path`, or where it points as a link.

    Raises `OutputError` for a folder, for a file that is no schedule, and for a place in the folder
    of a run.
    """
    target = path.resolve()
    if target.is_dir():
        raise OutputError(f"{path} is a folder, expected a schedule file; name one with --out")
    refuse_run_folder(target.parent, path, "a schedule")
    if target.exists() and target.stat().st_size and not _is_schedule(target):
        raise OutputError(
            f"{path} exists and is no schedule; choose another file with --out, or delete it"
        )
    return target


def claim_report(folder: Path) -> None:
    """Mark a folder as a report's, or check that it is one; its files may then be replaced.

    Raises `OutputError` for a file, for the folder of a run, and for a folder with files of the
    same names that are not a report's.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder; choose another place with --out")
    page = folder / "report.html"
    ours = _kind(folder) == _REPORT_KIND or (page.is_file() and _REPORT_MARK in page.read_bytes())
    if not ours:
        refuse_run_folder(folder, folder, "a report")
        taken = [name for name in ("report.html", "figures", MANIFEST) if (folder / name).exists()]
        if taken:
            raise OutputError(
                f"{folder / taken[0]} exists and is no report's; choose another folder with --out"
            )
    if not (folder / MANIFEST).exists():
        write_sealed(folder / MANIFEST, {"schema": 1, "kind": _REPORT_KIND})


def note_figures(folder: Path, figures: Iterable[Path]) -> None:
    """Note a report's figures, and delete those of the report before that it does not have.

    A report's page is replaced, so that a figure of the one before would be beside another page.
    Only files that an earlier report noted are deleted.
    """
    noted = {path.relative_to(folder).as_posix() for path in figures}
    try:
        manifest = read_sealed(folder / MANIFEST, ResultsError, "delete it")
    except ResultsError:
        manifest = {}  # the page alone tells that the folder is a report's
    for name in set(manifest.get(_FIGURES_KIND, [])) - noted:
        (folder / name).unlink(missing_ok=True)
    content = {"schema": 1, "kind": _REPORT_KIND, _FIGURES_KIND: sorted(noted)}
    write_sealed(folder / MANIFEST, content)


def claim_figures(folder: Path) -> None:
    """Mark a folder as one of figures, or check that it is one; its figures may then be replaced.

    Raises `OutputError` for a file, for the folder of a run or a report, and for a folder with
    pictures that are not ours.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder; choose another place with --out")
    if _kind(folder) == _FIGURES_KIND:
        return
    if (folder / MANIFEST).exists():
        raise OutputError(
            f"{folder} is the folder of a {_kind(folder)}, where figures do not belong; choose "
            "another place with --out"
        )
    taken = [path for suffix in (".pdf", ".svg", ".png") for path in folder.glob(f"*{suffix}")]
    if taken:
        raise OutputError(
            f"{min(taken)} exists and is no figure of `tokenlens figures`; choose another folder "
            "with --out"
        )
    write_sealed(folder / MANIFEST, {"schema": 1, "kind": _FIGURES_KIND})


def page_target(path: Path, name: str) -> Path:
    """The file to write a page to: `path`, or `name` in it where that is a folder.

    Raises `OutputError` for a name that does not end in .html, for a place in the folder of a run,
    and for a file that is no page of tokenlens.
    """
    target = path / name if path.is_dir() else path
    if target.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: got {path.suffix!r}, expected a name that ends in .html")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file; choose another with --out")
    refuse_run_folder(target.parent, target, "a page")
    if target.exists() and target.stat().st_size and _REPORT_MARK not in target.read_bytes():
        raise OutputError(
            f"{target} exists and is no page of tokenlens; choose another with --out, or delete it"
        )
    return target


def figure_target(path: Path) -> Path:
    """The file to write a figure to: `path`, or where it points as a link.

    Raises `OutputError` for another kind of file than .png and .svg, for a folder, and for a file
    that is no picture of its kind.
    """
    target, mark = path.resolve(), _FIGURE_MARKS.get(path.suffix)
    if mark is None:
        raise OutputError(f"{path}: got the kind {path.suffix!r}, expected .png or .svg")
    if target.is_dir():
        raise OutputError(f"{path} is a folder, expected a file; choose another")
    if target.exists() and target.stat().st_size and mark not in target.read_bytes()[:2000]:
        raise OutputError(f"{path} exists and is no {path.suffix} figure; choose another file")
    return target


def bib_target(path: Path) -> Path:
    """The file to write BibTeX entries to: `path`, or where it points as a link.

    Raises `OutputError` for a name that does not end in .bib, for a folder, and for a file with
    other entries than tokenlens's.
    """
    target = path.resolve()
    if path.suffix != ".bib":
        raise OutputError(f"{path}: got {path.suffix!r}, expected a name that ends in .bib")
    if target.is_dir():
        raise OutputError(f"{path} is a folder, expected a file; choose another with --out")
    content = target.read_bytes() if target.exists() else b""
    if content and not content.startswith(BIB_MARK.encode()):
        raise OutputError(
            f"{path} exists and was not written by tokenlens; choose another file with --out"
        )
    return target


def refuse_run_folder(folder: Path, path: Path, what: str) -> None:
    """Raise `OutputError` where `folder` holds a run; `what` and `path` are for its text."""
    kind = _kind(folder)
    if kind is not None and kind != _REPORT_KIND:
        raise OutputError(
            f"{path} is in the folder of a {kind}, where {what} does not belong; choose another "
            "place with --out"
        )


def _kind(folder: Path) -> str | None:
    """The kind that a folder's manifest states; None without a readable manifest."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        kind = read_sealed(folder / MANIFEST, ResultsError, "delete it").get("kind")
    except ResultsError:
        return "run"
    return kind if isinstance(kind, str) else None


def _is_schedule(path: Path) -> bool:
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= _SCHEDULE_KEYS
