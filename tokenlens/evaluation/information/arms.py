"""Arms of the information curves: one way to withhold visual tokens per curve and layer.

- `horizon`: all visual tokens are removed from the layer on. From the information horizon on (arXiv
2512.07580), this no longer changes the output.
- `contribution`: only this layer does not update visual tokens; text can still read their keys and
values (layer contribution; ShortV, arXiv 2504.00502).
- `aside`: only this layer runs without visual tokens; they return unchanged after it. Where a model
adds features to visual tokens between its first layers (deepstack), tokens cannot return within
these layers; they are then removed from the layer on, as in `horizon`.
- `capability`: only the tokens that the unpruned model's layer ranks highest are kept from layer 3
on (SwiftVLM, arXiv 2602.03134, Fig. 4, with agreement instead of a score).
- `random`: a random share is kept from the layer on.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokenlens.evaluation.capability import left_from, own_left
from tokenlens.models.structure import decoder_layers, deepstack_layers, visual_mask
from tokenlens.models.vlm import VLM
from tokenlens.pruning.engine import prune
from tokenlens.schedule import Keep, ModelRef, Schedule, Scorer, Stage


@dataclass(frozen=True)
class Arms:
    """The arms of a model.

    Attributes:
        vlm: a model with its processor.
        share: share of the visual tokens that is kept, in the arms that keep some.
        seed: seed of the random arms.
    """

    vlm: VLM
    share: float
    seed: int

    def open(
        self, curve: str, layer: int, input_ids: Tensor, recorded: Sequence[Tensor]
    ) -> AbstractContextManager[Any]:
        """Context in which a forward pass of `input_ids` runs as the arm of `curve` and `layer`.

        `recorded` is the unpruned model's importance of every sample; `layer` counts from 1.
        """
        if curve == "contribution":
            return frozen_in(self.vlm, layer, input_ids)
        model, drawn = ModelRef.of(self.vlm), Scorer(query="random", seed=self.seed)
        if curve == "aside" and deepstack_layers(self.vlm.model) < layer < self.vlm.layers:
            return prune(self.vlm, aside_in(model, layer))
        if curve == "capability":
            schedule = own_left(model, layer, self.share)
            return prune(self.vlm, schedule, recorded=recorded)
        keep: Keep = self.share if curve == "random" else "none"
        return prune(self.vlm, left_from(model, layer, keep, drawn))


def aside_in(model: ModelRef, layer: int) -> Schedule:
    """Schedule without visual tokens in `layer` (from 1, not the last); all enter the next one."""
    set_aside = Stage(score_layer=layer, when="before", keep="none", disposal="bypass")
    back = Stage(score_layer=layer + 1, when="before", keep=1.0, disposal="drop")
    scorer = Scorer(query="uniform")
    return Schedule(schema=1, method="aside", model=model, scorer=scorer, stages=[set_aside, back])


@contextmanager
def frozen_in(vlm: VLM, layer: int, input_ids: Tensor) -> Iterator[None]:
    """Context in which `layer` (from 1) does not update the visual tokens of `input_ids`.

    All tokens run through the layer; then the hidden states of visual tokens are restored. Features
    that a family adds to visual tokens between layers (deepstack) are still added.
    """
    visual = visual_mask(vlm.model, input_ids)

    def put_back(
        _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        before = args[0] if args else kwargs["hidden_states"]
        after = output if isinstance(output, Tensor) else output[0]
        rows = visual.to(after.device).unsqueeze(-1)
        after = torch.where(rows, before, after)
        return after if isinstance(output, Tensor) else (after, *output[1:])

    module = decoder_layers(vlm.model)[layer - 1]
    handle = module.register_forward_hook(put_back, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
