"""`tokenlens benchmarks`: the benchmarks that can be read, and their names."""

import typer
from rich.text import Text

from .console import Table, console
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("benchmarks", epilog="Example: tokenlens benchmarks")(benchmarks)


def benchmarks() -> None:
    """List the benchmarks that --data takes, what they report, and their mirrors on the hub."""
    from tokenlens.samples.benchmarks import BENCHMARKS, find_benchmark

    known = [find_benchmark(name) for name in BENCHMARKS]
    results(
        benchmarks=[
            {
                "name": one.name,
                "about": one.about,
                "metric": one.metric,
                "hub_ids": one.hub_ids,
                "splits": {"profile": one.files.calibration, "run": one.files.held_out},
                "hub_splits": {"profile": one.hub.calibration, "run": one.hub.held_out},
                "notes": dict(one.hub.notes),
            }
            for one in known
        ]
    )
    table = Table("--data", "what is asked, and what is reported", box=None)
    for benchmark in known:
        files, hub = (
            f"{layout.calibration} → {layout.held_out}"
            for layout in (benchmark.files, benchmark.hub)
        )
        table.add_row(f"{benchmark.name}:", benchmark.about)
        table.add_row("", Text(f"files {files}; {' or '.join(benchmark.hub_ids)} {hub}\n", "dim"))
        for split, note in benchmark.hub.notes.items():
            table.add_row("", Text(f"{split}: {note}\n", "dim"))
    console.print(table)
    console.print(
        "After the colon comes the directory of the published files, a copy of the mirror, or "
        "the mirror's id: --data pope:coco/pope, --data refcoco:lmms-lab/RefCOCO."
    )
    console.print(
        "The arrows are from the split that profile reads to the one that run reads; --data "
        "refcoco/testB:DIR names another. Pictures of the second split are left out of the first; "
        "where both are the same, choose the layers on other data."
    )
