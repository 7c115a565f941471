"""Report on directories that other commands wrote; their kinds are read from their manifests."""

from collections.abc import Sequence
from pathlib import Path

from tokenlens.reports.page import ReportFiles, build_report
from tokenlens.schedule import Schedule
from tokenlens.storage.output_paths import find_runs


def report(
    directories: Path | str | Sequence[Path | str] = (),
    *,
    out: Path | str | None = None,
    schedule: Schedule | None = None,
    pictures: int = 6,
    samples: int = 24,
) -> ReportFiles:
    """Write one HTML page that needs no network, and each of its figures as SVG and PNG.

    Args:
        directories: profiles, and the results of runs or of comparisons, of one model or several,
            and the file of a bench;
            without any, the newest results under ./tokenlens-out and their model's newest profile.
        out: directory for report.html and figures/, made where missing; None for `report` beside
            the first of the directories.
        schedule: the schedule of the first model whose layers are marked; None takes the one that
            the results ran.
        pictures: how many samples are shown with their pictures.
        samples: how many samples can be looked through in the page, one by one.

    Raises:
        ResultsError: a directory that is neither, nothing to report, or one profile and one set of
            results, of two models.
        ProfileError: a profile that is not finished.
        ScheduleError: a schedule of another number of layers, or not the one that was run.
        OutputError: `out` cannot be written to.
    """
    named = [directories] if isinstance(directories, str | Path) else directories
    runs = find_runs([Path(one) for one in named])
    place = runs.report if out is None else Path(out)
    return build_report(
        runs.profile,
        schedule,
        runs.results,
        place,
        pictures=pictures,
        samples=samples,
        further=runs.further,
        information=runs.information,
        tuning=runs.tuning,
        bench=runs.bench,
    )
