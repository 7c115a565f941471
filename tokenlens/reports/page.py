"""The report: one HTML page that needs no network, and its figures as files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tokenlens.reports.cautions import inputs_cautions
from tokenlens.reports.citations import result_citations
from tokenlens.reports.collecting import collecting_less
from tokenlens.reports.explorer import Explorer, explorer
from tokenlens.reports.explorer_assets import page_script, style
from tokenlens.reports.figures import FigureFolder
from tokenlens.reports.information_section import information_section
from tokenlens.reports.inputs import (
    NO_BENCH,
    NO_BOXES,
    NO_INFORMATION,
    NO_PICTURES,
    NO_PROFILE,
    NO_PRUNED,
    NO_REGION,
    NO_RESULTS,
    NO_SCHEDULE,
    NO_STAGES,
    NO_TUNING,
    Inputs,
    read_inputs,
)
from tokenlens.reports.map_data import palette
from tokenlens.reports.nearby import near
from tokenlens.reports.profile_sections import (
    correlation_section,
    map_section,
    overlap_section,
    shallow_deep_section,
)
from tokenlens.reports.provenance import provenance, schedule_text
from tokenlens.reports.result_sections import headline_stats, result_section
from tokenlens.reports.speed_section import speed_section
from tokenlens.reports.stage_sections import stage_cases
from tokenlens.reports.templating import environment
from tokenlens.reports.tuning_section import tuning_section
from tokenlens.reports.wording import listed
from tokenlens.schedule import Schedule
from tokenlens.schedule.citations import Citations
from tokenlens.schedule.stage_words import stage_name, stage_rows
from tokenlens.storage.files import write_text
from tokenlens.storage.output_claims import claim_report, note_figures
from tokenlens.storage.output_paths import Runs
from tokenlens.wording.figures import counted


@dataclass(frozen=True)
class ReportFiles:
    """What `build_report` wrote.

    Attributes:
        html: the page.
        figures: the figures beside it, each as SVG and PNG.
        cautions: the cautions of the page, one sentence each.
    """

    html: Path
    figures: tuple[Path, ...]
    cautions: tuple[str, ...] = ()


@collecting_less()
def build_report(
    profile: Path | None,
    schedule: Schedule | None,
    results: Path | None,
    out: Path,
    *,
    pictures: int = 6,
    samples: int = 24,
    further: Sequence[Runs] = (),
    information: Path | None = None,
    tuning: Path | None = None,
    bench: Path | None = None,
) -> ReportFiles:
    """Write `out`/report.html, self-contained, and `out`/figures.

    Args:
        profile: directory of a finished profile.
        schedule: the schedule to mark; None takes the one that `results` ran, if any.
        results: directory of a finished comparison.
        out: directory, made where missing.
        pictures: how many samples are shown with their pictures.
        samples: how many samples the explorer offers; 0 leaves it out.
        further: more profiles and results, of this model or of others, each with sections of its
            own after these; the explorer has all of them.
        information: directory of a finished information profile.
        tuning: directory of a finished search for a schedule.
        bench: file of a bench.

    What is None leaves its sections to say which command makes what they need; so does a picture
    that is no longer there. Every file is written whole or not at all, the page last; figures of a
    report that was there before, and that this one does not have, are deleted then.

    Raises:
        ProfileError: `profile` holds no finished profile.
        ResultsError: `results` holds no finished comparison, or one of another model.
        ScheduleError: the schedule is for another number of layers than profiled or not what
            `results` ran, or nothing was given.
        OutputError: `out` cannot be written to, or holds something else.
    """
    first = Runs(profile, results, out, information=information, tuning=tuning, bench=bench)
    runs = (first, *further)
    parts = [
        read_inputs(
            one.profile,
            None if number else schedule,
            one.results,
            information=one.information,
            tuning=one.tuning,
            bench=one.bench,
        )
        for number, one in enumerate(runs)
    ]
    claim_report(Path(out))
    folder = Path(out) / "figures"
    folders = [
        FigureFolder(folder / str(number) if number > 1 else folder)
        for number in range(1, len(parts) + 1)
    ]
    contents = [
        _content(part, figures, pictures) for part, figures in zip(parts, folders, strict=True)
    ]
    explored = explorer(parts, samples) if samples else None
    html = Path(out) / "report.html"
    write_text(html, _page(contents, explored))
    cautions = dict.fromkeys(caution for one in contents for caution in one["cautions"])
    files = [file for figures in folders for file in figures.files]
    note_figures(Path(out), files)
    return ReportFiles(html, tuple(files), tuple(cautions))


def _page(contents: Sequence[dict[str, Any]], explored: Explorer | None) -> str:
    """The whole page: the sections of each part, and the explorer in the first one's."""
    templates = environment()
    part = templates.get_template("report_part.html.j2")
    suffixes = ["", *(f"-{number}" for number in range(2, len(contents) + 1))]
    parts = [
        part.render({**one, "suffix": suffix, "explorer": None if suffix else explored})
        for one, suffix in zip(contents, suffixes, strict=True)
    ]
    return templates.get_template("report.html.j2").render(
        models=list(dict.fromkeys(one["model"] for one in contents)),
        contents=[(one["title"], suffix) for one, suffix in zip(contents, suffixes, strict=True)],
        parts=list(map(Markup, parts)),  # rendered by a template, which escapes
        style=style(templates),
        script=page_script(templates) if explored else None,
        palette=palette(),
    )


def _content(inputs: Inputs, figures: FigureFolder, pictures: int) -> dict[str, Any]:
    """Everything the sections of one part show; a section is a `Missing` where its input is."""
    schedule = inputs.schedule
    return {
        "model": inputs.model_name,
        "title": inputs.title,
        "summary": _summary(inputs),
        "stages": stage_rows(schedule.stages) if schedule else NO_SCHEDULE,
        "schedule_json": schedule_text(schedule) if schedule else NO_SCHEDULE,
        "relative_to": schedule.why.relative_to if schedule and schedule.why else None,
        "cautions": inputs_cautions(inputs),
        "provenance": provenance(inputs),
        "citations": _citations(inputs),
        **_measured(inputs, figures, pictures),
        "information": information_section(inputs.information, figures)
        if inputs.information
        else NO_INFORMATION,
        "tuning": tuning_section(inputs.tuning, figures) if inputs.tuning else NO_TUNING,
        "speed": speed_section(inputs.bench, figures) if inputs.bench else NO_BENCH,
        **_outcomes(inputs, figures, pictures),
    }


def _citations(inputs: Inputs) -> Citations:
    """What to cite for everything that the part shows."""
    information = inputs.information_folder
    profile, tuning = (one and one.directory for one in (inputs.profile, inputs.tuning))
    shown = [path for path in (profile, inputs.results, information, tuning) if path]
    return result_citations(shown, inputs.schedule)


def _measured(inputs: Inputs, figures: FigureFolder, pictures: int) -> dict[str, Any]:
    """The sections about the profile."""
    profile, correlation, chosen = inputs.profile, inputs.correlation, inputs.chosen
    if profile is None or correlation is None:
        return dict.fromkeys(("correlation", "overlap", "shallow_deep", "maps"), NO_PROFILE)
    maps = map_section(profile, chosen, pictures, figures) or NO_BOXES
    return {
        "correlation": correlation_section(correlation, chosen, figures),
        "overlap": overlap_section(profile, chosen, figures) or NO_REGION,
        "shallow_deep": shallow_deep_section(profile, chosen, figures),
        "maps": maps if pictures else NO_PICTURES,
    }


def _outcomes(inputs: Inputs, figures: FigureFolder, pictures: int) -> dict[str, Any]:
    """The sections about the results."""
    comparison, arm, schedule = inputs.comparison, inputs.arm, inputs.schedule
    if comparison is None or arm is None or schedule is None:
        missing = NO_RESULTS if comparison is None else NO_PRUNED
        return dict.fromkeys(("stats", "kept", "results"), missing)
    kept: Any = NO_STAGES
    if schedule.stages:
        kept = stage_cases(comparison, arm, schedule, pictures, figures) or NO_BOXES
    return {
        "stats": headline_stats(comparison, arm),
        "kept": kept if pictures else NO_PICTURES,
        "results": result_section(comparison, inputs.chosen, figures),
    }


def _summary(inputs: Inputs) -> list[str]:
    """Sentences on the measurement, its samples, and the chosen layers."""
    sentences = []
    if inputs.profile:
        data = inputs.profile.manifest["identity"]["data"]
        split = f" ({data['split']})" if data["split"] else ""
        sentences.append(
            f"Measured on {counted(len(inputs.profile), 'sample')} of {near(data['source'])}"
            f"{split}, over {counted(inputs.profile.layers, 'layer')}."
        )
    if inputs.schedule:
        places = [stage_name(stage) for stage in inputs.schedule.stages]
        if inputs.schedule.image_scale is not None:
            share = f"{100 * inputs.schedule.image_scale:.3g} %"
            sentences.append(f"Pictures shrunk to {share} of their visual tokens.")
        if places:
            sentences.append(f"Pruned {listed(places)} by {inputs.schedule.method}.")
    if inputs.comparison and inputs.arm:
        data = inputs.comparison.arms[inputs.arm].identity["data"]
        split = f" ({data['split']})" if data["split"] else ""
        name = near(data["source"] or "samples in memory")
        sentences.append(f"Answered {counted(data['samples'], 'question')} of {name}{split}.")
        if plan := inputs.comparison.plan:
            budgets = listed([str(budget) for budget in plan.budgets])
            arms = len(inputs.comparison.arms) - 1
            compared = f"{arms} arms are" if arms > 1 else "One arm is"
            sentences.append(
                f"{compared} compared, at {budgets}; the headline and the pictures are of "
                f"{inputs.arm}."
            )
    return sentences
