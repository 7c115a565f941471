"""`tokenlens cost`: the cost of a schedule, computed without loading weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Table, console, percent
from .importing import importing
from .options import DEFAULT_MODEL, MOST, Model, ModelOptions, Revision, load_outline
from .output import current, results

if TYPE_CHECKING:
    from tokenlens.pruning.cost.report import CostReport

_PROMPT_PANEL = "Prompt"
_BUDGET = "33%"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "cost",
        epilog="Example: tokenlens cost --method swiftvlm --budget '50% MACs' --model llava-1.5",
    )(cost)


def cost(
    schedule: Annotated[
        Path | None,
        typer.Option(
            help="Schedule file, or hub:USER/NAME[@REVISION]; default out.json, as select-layers "
            "writes it."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Cost this preset instead of a file (see `tokenlens methods`)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Budget of --method: 33%, '48 tokens', '50% MACs', '1.2 TMACs'; default 33%."
        ),
    ] = None,
    model: Model = None,
    revision: Revision = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="Type of the key-value cache: float32, bfloat16, float16 or auto (checkpoint's).",
            rich_help_panel="Model",
        ),
    ] = "auto",
    any_model: Annotated[
        bool,
        typer.Option("--any-model", help="Cost a schedule made for a model of another id."),
    ] = False,
    visual_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Visual tokens; default: those the schedule was solved for, or of a square "
            "picture.",
            rich_help_panel=_PROMPT_PANEL,
        ),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Count the visual tokens of a picture of this size instead, in pixels.",
            rich_help_panel=_PROMPT_PANEL,
        ),
    ] = None,
    text_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Text tokens, the chat template's included; default: those the schedule was "
            "solved for, or of a question of 15 words.",
            rich_help_panel=_PROMPT_PANEL,
        ),
    ] = None,
) -> None:
    """Count tokens, MACs and cache of a schedule, without running the model or its weights.

    MACs are those of the decoder's prefill of one prompt, part by part: projections, attention,
    MLP, scoring and merging. The vision tower, the head and decoding are not counted. The
    numbers that the formulas of the papers give are shown beside them.
    """
    from tokenlens.methods import find_method
    from tokenlens.pruning.cost.request import asked_schedule, parse_size, refuse_both
    from tokenlens.schedule import Schedule
    from tokenlens.selection.solve import parse_budget
    from tokenlens.storage.output_paths import SCHEDULE

    given = asked_schedule(schedule, method, budget, SCHEDULE)
    if method is not None:
        find_method(method)
        parse_budget(budget or _BUDGET)
    size = parse_size(picture) if picture else None
    refuse_both(size, visual_tokens)
    name = model or (given and given.model.id) or DEFAULT_MODEL
    commit = revision or (given.model.revision if given and model is None else None)
    ModelOptions(name, commit, dtype=dtype).check(weights=False)

    with importing():
        from tokenlens.pruning.cost.report import assumption, cost_report, prompt_for

    outline = load_outline(name, commit, dtype)
    note = given.budget if given else None
    prompt = prompt_for(outline, note, picture=size, n_visual=visual_tokens, n_text=text_tokens)
    assumed = assumption(outline, note, n_visual=visual_tokens, n_text=text_tokens)
    chosen = given or Schedule.preset(
        method or "",
        outline,
        budget=budget or _BUDGET,
        n_visual=prompt.visual,
        n_text=prompt.text,
    )
    report = cost_report(chosen, outline, prompt, any_model=any_model, assumed=assumed)
    found = report.as_json()
    results(model=name, **found)
    current().top = found
    _print(report, name)


def _print(report: "CostReport", name: str) -> None:
    prompt, share = report.prompt, report.pruned.average / report.prompt.visual
    console.print(
        f"{report.schedule.method} on {name}, a prompt of {prompt.visual} visual and {prompt.text} "
        "text tokens"
    )
    table = Table(title="Cost of the prefill, GMACs", title_justify="left")
    for column in ("part", "unpruned", "pruned", "of unpruned"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, (before, after) in report.parts().items():
        label = "MLP" if part == "mlp" else part
        table.add_row(label, *_row(before, after, 1e9), end_section=part in ("merging", "total"))
    before, after = report.unpruned.kv_bytes, report.pruned.kv_bytes
    table.add_row(f"KV cache in {report.dtype}, MiB", *_row(before, after, 2**20))
    console.print(table)
    console.print(
        f"Visual tokens entering a layer: {report.pruned.average:.1f} of {prompt.visual} "
        f"({share:.1%}), mean over layers 1, 2, …: "
        + " ".join(map(str, report.pruned.tokens_per_layer))
    )
    published = Table(title="As the papers count, GMACs", title_justify="left")
    for column in ("formula of", "unpruned", "pruned", "of unpruned"):
        published.add_column(column, justify="left" if column == "formula of" else "right")
    published.add_column("what it counts")
    for row in report.published:
        published.add_row(
            row.formula.methods, *_row(row.unpruned, row.pruned, 1e9), row.formula.counts
        )
    console.print(published)
    for note in report.notes:
        console.print(f"Note: {note}.")


def _row(before: float, after: float, unit: float) -> tuple[str, str, str]:
    ratio = percent(after / before) if before else ""
    return f"{before / unit:,.3f}", f"{after / unit:,.3f}", ratio
