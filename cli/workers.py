"""The options of commands that may hand their work to several processes or machines."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenlens.errors import OptionError

from .options import MOST, load_model

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
    count: int | None, address: str | None, gpus: float, cpus: int, **model: Any
) -> "tuple[VLM, Workers | None]":
    """The model, and the workers that are asked for; `model` are the arguments of `load_model`.

    With workers this process computes nothing, so its own model stays on the CPU.
    """
    if count is None:
        if address is not None or gpus:
            raise OptionError("--ray and --worker-gpus go with --workers; add --workers N")
        return load_model(**model), None
    from tokenlens.workers import LOCAL, Workers

    device = model["device"] or ("cuda" if gpus else "cpu")
    load = partial(_load, Path.cwd(), model | {"device": device})
    workers = Workers(count, load, address or LOCAL, gpus, cpus)
    return load_model(**model | {"device": "cpu"}), workers


def _load(folder: Path, model: dict[str, Any]) -> Any:
    """A worker's model; relative paths mean what they mean where the command was given."""
    os.chdir(folder)
    return load_model(**model)
