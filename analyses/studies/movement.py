"""How much does each layer change the visual tokens? Their hidden states, before and after it.

    python -m tokenlens.analyses.studies.movement --model tiny-qwen2-vl --limit 64

Freezing leaves this change out. Where it is small, methods that freeze score too well.
The change of a token is the norm of what a layer adds to it, divided by the norm of its input.
Means over a calibration sample's visual tokens and over its text tokens are reported apart.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from tokenlens.models.batch import Batch
from tokenlens.models.loading import load
from tokenlens.models.structure import decoder_layers, visual_mask
from tokenlens.samples.dataset import load_samples, with_pictures

from . import command
from .paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample


def compute(vlm: VLM, samples: Sequence[Sample], *, batch_size: int = 8) -> pd.DataFrame:
    """The relative change of hidden states by each layer, means over samples.

    Returns:
        Columns `layer` (from 1), `visual` and `text`.
    """
    found = [
        moved
        for start in range(0, len(samples), batch_size)
        for moved in _moved(vlm, samples[start : start + batch_size])
    ]
    means = torch.stack(found).mean(dim=0).tolist()
    rows = [(layer, *pair) for layer, pair in enumerate(means, start=1)]
    return pd.DataFrame(rows, columns=["layer", "visual", "text"])


def markdown(table: pd.DataFrame) -> str:
    """A row per layer, in per cent."""
    rows = [
        [str(row.layer), f"{100 * row.visual:.1f} %", f"{100 * row.text:.1f} %"]
        for row in table.itertuples()
    ]
    return markdown_table(["layer", "visual tokens", "text tokens"], rows)


def _moved(vlm: VLM, samples: Sequence[Sample]) -> list[Tensor]:
    """Per sample the mean changes of its visual and its text tokens: float64 [layers, 2]."""
    inputs = Batch.of(vlm, samples).inputs
    visual = visual_mask(vlm.model, inputs["input_ids"]).cpu()
    kinds = visual, inputs["attention_mask"].bool().cpu() & ~visual
    changes: list[Tensor] = []

    def compare(
        _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        before = (args[0] if args else kwargs["hidden_states"]).double()
        after = (output if isinstance(output, Tensor) else output[0]).double()
        change = ((after - before).norm(dim=-1) / before.norm(dim=-1).clamp(min=1e-12)).cpu()
        changes.append(
            torch.stack([(change * kind).sum(1) / kind.sum(1).clamp(min=1) for kind in kinds], 1)
        )

    with ExitStack() as stack, torch.inference_mode():
        for layer in decoder_layers(vlm.model):
            handle = layer.register_forward_hook(compare, with_kwargs=True)
            stack.callback(handle.remove)
        vlm.model(**inputs, use_cache=False, logits_to_keep=1)
    return list(torch.stack(changes, dim=1))


def main() -> None:
    """Print the table."""
    parser = command.arguments("movement", "How much each layer changes the visual tokens.")
    command.run(parser, _table)


def _table(options: Namespace) -> str:
    loaded = load_samples(options.data, "calibration", options.limit, options.task)
    samples = with_pictures(loaded, "the study")
    return markdown(compute(load(options.model), samples, batch_size=options.batch_size))


if __name__ == "__main__":
    main()
