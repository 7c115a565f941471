"""`tokenlens bench`: speed and memory of pruned models beside the unpruned one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Table, announce, console, mode, wrote
from .dry_run import DryRun
from .importing import importing
from .options import DEFAULT_MODEL, MOST, ModelOptions, Out, quieten
from .output import results

if TYPE_CHECKING:
    from tokenlens.benching.request import Request

_SHAPE, _MODEL = "Random weights", "Model"
Model = Annotated[
    str | None,
    typer.Option(
        help="Bundled name, alias, hub id or local directory; default tiny-qwen2-vl.",
        rich_help_panel=_MODEL,
    ),
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.", rich_help_panel=_MODEL)]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:1; default: a GPU if any.", rich_help_panel=_MODEL),
]
Like = Annotated[
    str | None,
    typer.Option(
        help="Random weights in this shape: qwen2-vl-2b, qwen2-vl-7b or llava-1.5-7b.",
        rich_help_panel=_SHAPE,
    ),
]
Layers = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST, help="Decoder layers; the tower shrinks alike.", rich_help_panel=_SHAPE
    ),
]
Width = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Hidden width, a multiple of 128.", rich_help_panel=_SHAPE),
]
Tokens = Annotated[
    str | None,
    typer.Option(
        help="Visual tokens of a prompt: squares, such as 576,2304.", rich_help_panel=_SHAPE
    ),
]
Text = Annotated[
    int, typer.Option(min=4, max=MOST, help="Text tokens of a prompt.", rich_help_panel=_SHAPE)
]
Methods = Annotated[str, typer.Option(help="Presets, with commas between them.")]
Budgets = Annotated[str, typer.Option(help="Budgets of each of them, with commas.")]
Batches = Annotated[str, typer.Option(help="Prompts in a batch, such as 1,4.")]
Rounds = Annotated[int, typer.Option(min=2, max=MOST, help="How often each arm is timed.")]
Decode = Annotated[
    int, typer.Option(min=0, max=MOST, help="Tokens to time decoding on; 0 for none.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        "bench",
        epilog="Example: tokenlens bench --like qwen2-vl-2b --layers 8 --tokens 576,2304 "
        "--methods swiftvlm,fastv --budget 33%,22%",
    )(bench)


def bench(
    model: Model = None,
    dtype: Dtype = "float32",
    device: Device = None,
    like: Like = None,
    layers: Layers = None,
    width: Width = None,
    tokens: Tokens = None,
    text_tokens: Text = 64,
    methods: Methods = "swiftvlm,stride",
    budget: Budgets = "33%",
    batch: Batches = "1",
    rounds: Rounds = 9,
    decode_tokens: Decode = 8,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Time pruned models, the unpruned one and the engine-free layers in turn, in one run.

    Efficiency is (unpruned time ÷ pruned time) ÷ (unpruned MACs ÷ pruned MACs) of the prefill: 1
    where time falls as MACs do. --out is the JSON file; table and plot go beside it. The same
    command continues where it was interrupted.
    """
    from tokenlens.benching.request import Request, counts, names
    from tokenlens.storage.output_paths import bench_file

    if like and "model" not in mode.typed:
        model = None  # one from the environment or a settings file is for other commands
    request = Request(
        model=model or (None if like else DEFAULT_MODEL),
        like=like,
        layers=layers,
        width=width,
        methods=names("--methods", methods),
        budgets=names("--budget", budget),
        batches=counts("--batch", batch),
        tokens=counts("--tokens", tokens) if tokens else (),
        text=text_tokens,
        dtype=dtype,
        device=device,
        rounds=rounds,
        decode=decode_tokens,
    )
    request.check()
    if request.model is not None:
        ModelOptions(request.model).check()
    quieten()
    path = out or bench_file(request.model or str(request.like))
    if dry_run:
        _print_plan(request, path)
    else:
        _measure_and_show(request, path)


def _print_plan(request: "Request", path: Path) -> None:
    from tokenlens.benching.bench import missing_cells

    cells = missing_cells(request, path)
    results(dry_run={"cells": cells, "rounds": request.rounds}, file=path)
    console.print(f"{len(cells)} timings of {request.rounds} rounds are not in {path} yet:")
    for cell in cells:
        console.print(f"  {cell}")
    console.print("How long that takes is not known before; nothing is written.")


def _measure_and_show(request: "Request", path: Path) -> None:
    with importing():
        from tokenlens.analyses.bench_speed import draw
        from tokenlens.benching.bench import run_bench
    from tokenlens.benching.records import HEADINGS, markdown, table_rows
    from tokenlens.storage.files import write_text

    found = run_bench(request, path, lambda cell: announce(f"timing {cell}"))
    results(identity=found.identity, rows=found.rows)
    title = "Beside the unpruned model: ratios, of efficiency with quartiles"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for row in table_rows(found):
        table.add_row(*row)
    console.print(table)
    if any(row["estimate"] for row in found.rows):
        console.print("Estimates are of token counts: those weights do not fit into memory.")
    wrote("bench", path)
    table_file = path.with_suffix(".md")
    write_text(table_file, markdown(found) + "\n")
    wrote("table", table_file)
    for drawn in draw(found, path):
        wrote("plot", drawn)
