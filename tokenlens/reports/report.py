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
) -> ReportFiles:
    """Write one HTML page that needs no network, and each of its figures as SVG and PNG.

    Args:
        directories: a profile, the results of a run or of a comparison, or one of each; without
            any, the newest results under ./tokenlens-out and their model's newest profile.
        out: directory for report.html and figures/, made where missing; None for `report` beside
            the first of the directories.
        schedule: the schedule whose layers are marked; None takes the one that the results ran.
        pictures: how many samples are shown with their pictures.

    Raises:
        ResultsError: a directory that is neither, two of a kind, nothing to report, or results and
            a profile of two models.
        ProfileError: a profile that is not finished.
        ScheduleError: a schedule of another number of layers, or not the one that was run.
        OutputError: `out` cannot be written to.
    """
    named = [directories] if isinstance(directories, str | Path) else directories
    runs = find_runs([Path(one) for one in named])
    place = runs.report if out is None else Path(out)
    return build_report(runs.profile, schedule, runs.results, place, pictures=pictures)
