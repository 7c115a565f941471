"""`tokenlens show`: a question about a photograph, with an attention map of each answer word."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import announce, console, lines, wrote
from .importing import importing
from .options import (
    DEFAULT_MODEL,
    MOST,
    Adapter,
    Device,
    DeviceMap,
    Dtype,
    Model,
    ModelOptions,
    Quantize,
    Revision,
)
from .output import results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenlens.reports.shown_answer import ShownAnswer

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO... QUESTION",
        help="Photographs, a folder of them, or a pattern in quotes; photos/NAME is a bundled one; "
        "last the question.",
    ),
]
ScheduleFile = Annotated[
    Path | None,
    typer.Option(
        help="Schedule file, or hub:USER/NAME[@REVISION]: what each of its stages keeps is shown "
        "as well."
    ),
]
Page = Annotated[Path | None, typer.Option(help="HTML file to write, or a folder to write it to.")]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, max=MOST, help="Tokens after which an answer is cut off.")
]
AnyModel = Annotated[
    bool, typer.Option("--any-model", help="Run a schedule made for a model of another id.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "show",
        epilog='Example: tokenlens show photo.jpg "where is the dog?" --model qwen2-vl-2b --open',
    )(show)


def show(
    words: Words,
    model: Model = None,
    schedule: ScheduleFile = None,
    out: Page = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    max_new_tokens: MaxNewTokens = 32,
    any_model: AnyModel = False,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    quantize: Quantize = None,
    adapter: Adapter = None,
) -> None:
    """Ask about a photograph, and write one page with an attention map of each word.

    The page needs no network: the answer's words are buttons, and a slider selects layers.
    Several photographs share one page. Model and revision are the schedule's unless named.
    """
    from tokenlens.evaluation.comparing.origins import made_for
    from tokenlens.samples.photos import find_photos, split_question
    from tokenlens.schedule import Schedule
    from tokenlens.storage.output_claims import page_target
    from tokenlens.storage.output_paths import show_page as default_page

    named, question = split_question(words)
    found = find_photos(named)
    plan = None if schedule is None else Schedule.load(schedule)
    own = made_for({schedule: plan} if schedule and plan else {}, model=model, data=None)
    name, commit = own.model or DEFAULT_MODEL, revision or own.revision
    loading = ModelOptions(name, commit, device, dtype, device_map, quantize, adapter)
    loading.check()
    default = default_page(loading.label, found)
    target = page_target(out or default, default.name)

    with importing():
        from tokenlens.reports.show_page import show_page
        from tokenlens.reports.shown_answer import answer_photos
        from tokenlens.storage.files import write_text

    announce(f"Asking {loading.label}" + f" about {len(found)} photographs" * (len(found) > 1))
    vlm = loading.load()
    shown = answer_photos(
        vlm,
        found,
        question,
        plan,
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=True,
    )
    results(model=name, question=question, photos=_records(shown))
    _print(shown)
    write_text(target, show_page(shown, name, schedule.name if schedule else None))
    wrote("Page", target)
    if open_page:
        webbrowser.open(target.resolve().as_uri())


def _records(shown: "Sequence[ShownAnswer]") -> list[dict[str, Any]]:
    return [
        {"name": one.name, "answer": one.answer, "words": one.words, "pruned": one.pruned}
        for one in shown
    ]


def _print(shown: "Sequence[ShownAnswer]") -> None:
    """The answers, and the first photograph's map."""
    from tokenlens.analyses.drawing.block_map import block_map
    from tokenlens.wording.figures import percent

    for one in shown:
        console.print(f"{one.name}: {one.answer or '(no answer)'}")
        if one.pruned is not None:
            console.print(f"  pruned: {one.pruned or '(no answer)'}")
    first = shown[0]
    lines("\n".join(block_map(first.boxes, first.mean, first.image.size)))
    brightest = percent(float(first.mean.max()), digits=None)
    console.print(f"{first.name}: mean of all words, layers and heads; █ is {brightest}")
