"""Options that several commands share, declared once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenlens.errors import OptionError

from .console import mode

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

_MODEL_PANEL = "Model"

Model = Annotated[
    str | None,
    typer.Option(
        help="Bundled name, alias (see `tokenlens models`), hub id or local directory.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel=_MODEL_PANEL),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps; default: an accelerator if there is one.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16, float16 or auto (the checkpoint's own); default: float32 on a "
        "CPU, auto elsewhere.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        help="Spread a large model with accelerate: auto, balanced, sequential; disk leaves its "
        "weights there, and reads them as they are needed.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="Quantise the weights: torchao-int8, torchao-int8-dynamic, quanto-int8, quanto-int4, "
        "bitsandbytes-int8, bitsandbytes-int4 (docs/quantised.md).",
        rich_help_panel=_MODEL_PANEL,
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a PEFT adapter to put onto the model.", rich_help_panel=_MODEL_PANEL
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="`scenes`, `photos`, a JSON Lines manifest, a directory holding one "
        "(docs/your-data.md), or a benchmark such as pope:DIR (see `tokenlens benchmarks`)."
    ),
]
MOST = 10**6
"""The largest count that an option takes: of samples, tokens, pictures."""
Limit = Annotated[int | None, typer.Option(min=1, max=MOST, help="Use at most this many samples.")]
BatchSize = Annotated[int, typer.Option(min=1, max=MOST, help="Samples per forward pass.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.")]

Track = Annotated[
    str | None,
    typer.Option(
        help="Record settings, figures and schedules at a tracker too: wandb, tensorboard, mlflow."
    ),
]

Importance = Annotated[
    str,
    typer.Option(
        help="What is recorded: attention, value-weighted (times the norm of the projected value), "
        "gradient (times its gradient for the next token) or occlusion (what the answer loses, "
        "slow)."
    ),
]

DEFAULT_MODEL = "tiny-qwen2-vl"
DEFAULT_DATA = "scenes"


def check_importance(name: str) -> None:
    """Refuse a name that is no importance, before torch is imported."""
    from tokenlens.registry import IMPORTANCES
    from tokenlens.wording.printable import shown
    from tokenlens.wording.suggest import one_of

    if name not in IMPORTANCES:
        known = one_of(name, IMPORTANCES)
        raise OptionError(f"--importance: got {shown(name)}, expected {known}")


@dataclass(frozen=True)
class ModelOptions:
    """A model and how it is loaded, as on the command line."""

    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    device_map: str | None = None
    quantize: str | None = None
    adapter: Path | None = None

    @property
    def label(self) -> str:
        """The name, with what is done to the model: names the default folders of its runs."""
        adapter = self.adapter and self.adapter.resolve().name
        changes = [change for change in (self.quantize, adapter) if change]
        return "+".join([self.name.rstrip("/"), *changes])

    def check(self, *, weights: bool = True) -> None:
        """Raise the errors of `load` that can be found before torch is imported."""
        from tokenlens.models.preflight import check_model

        check_model(**self._as_arguments(), weights=weights)

    def load(self) -> "VLM":
        """Load the model without the progress bars of transformers."""
        from tokenlens.models.loading import load

        quieten()
        return load(**self._as_arguments())

    def _as_arguments(self) -> dict[str, Any]:
        return vars(self).copy()


def load_outline(name: str, revision: str | None, dtype: str) -> "VLM":
    """Load a model without its weights, likewise."""
    from tokenlens.models.loading import load_outline

    quieten()
    return load_outline(name, revision=revision, dtype=dtype)


def quieten() -> None:
    """Show no progress bars of transformers, and of its messages errors alone.

    With --verbose its messages stay.
    """
    from transformers.utils import logging

    if not mode.verbose:
        logging.set_verbosity_error()
    logging.disable_progress_bar()
