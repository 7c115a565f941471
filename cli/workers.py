"""The options of commands that may hand their work to several processes or machines."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenlens.errors import OptionError

from .options import MOST, ModelOptions

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.workers import Workers

_PANEL = "Several workers"
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST,
        help="Processes that each hold the model and share the work (Ray); default: this one.",
        rich_help_panel=_PANEL,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Address of a running Ray cluster, such as auto or ray://HOST:10001; default: this "
        "machine alone.",
        rich_help_panel=_PANEL,
    ),
]
WorkerGpus = Annotated[
    float,
    typer.Option(min=0, help="GPUs of each worker; 0.5 puts two on one.", rich_help_panel=_PANEL),
]
WorkerCpus = Annotated[
    int,
    typer.Option(min=1, help="CPU cores and threads of each worker.", rich_help_panel=_PANEL),
]


def load_spread(
    count: int | None, address: str | None, gpus: float, cpus: int, model: ModelOptions
) -> "tuple[VLM, Workers | None]":
    """The model, and the workers that are asked for.

    With workers this process computes nothing, so its own model stays on the CPU, in the data type
    that theirs has by default.
    """
    if count is None:
        if address is not None or gpus:
            raise OptionError("--ray and --worker-gpus go with --workers; add --workers N")
        return model.load(), None
    from tokenlens.models.quantisation import QUANTISATIONS
    from tokenlens.workers import LOCAL, Workers

    if model.quantize is not None and QUANTISATIONS[model.quantize].cuda:
        raise OptionError(
            f"--workers does not go with --quantize {model.quantize}: this process needs the model "
            "on the CPU, to check the workers'; leave one of them out"
        )

    device = model.device or ("cuda" if gpus else "cpu")
    load = partial(_load, Path.cwd(), replace(model, device=device))
    kind = device.partition(":")[0]
    workers = Workers(count, load, address or LOCAL, gpus, cpus, kind)
    dtype = model.dtype or (None if kind == "cpu" else "auto")
    return replace(model, device="cpu", dtype=dtype).load(), workers


def _load(folder: Path, model: ModelOptions) -> Any:
    """A worker's model; relative paths mean what they mean where the command was given."""
    os.chdir(folder)
    return model.load()
