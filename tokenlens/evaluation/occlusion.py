"""Importance "occlusion": what the model's answer loses where a part of the picture is left out.

The model answers greedily, unpruned. Then it is run again along that answer, once per layer and
window, with the visual tokens in the window gone from the layer on. The importance of a window is
what the log-probability of the whole answer loses by it, in nats (Zeiler & Fergus, "Visualizing and
Understanding Convolutional Networks", ECCV 2014, arXiv 1311.2901, §4.2, with tokens in the place of
pixels); that of a token is the mean over the windows it lies in. It is negative where the answer
gains. Windows are a third of a picture wide and high, each a sixth on from the one before: 25 a
picture, so that layers · 25 forward passes are needed. That is slow, and exact: nothing is inferred
from weights or slopes. All tokens that show the same place go together, those of tiles too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from tokenlens.errors import ProbeError
from tokenlens.evaluation.capability import left_from
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.running.generation import answer_tokens
from tokenlens.models.layout import Layout
from tokenlens.models.vlm import VLM
from tokenlens.probing.importances.importance import PromptRun, RunImportance
from tokenlens.pruning.engine import prune
from tokenlens.registry import IMPORTANCE_SUMMARIES, IMPORTANCE_UNITS
from tokenlens.schedule import MassKeep, ModelRef, Scorer

CELLS = 6
"""Rows and columns of cells that a picture is divided into; a window is two by two of them."""
MAX_NEW_TOKENS = 32
"""After which an answer is cut off."""
_GIVEN = Scorer(query="recorded", layer=1)


class ForcedAnswers:
    """A batch of prompts with the unpruned model's own answers behind them.

    Attributes:
        answers: per sample the token ids of its answer, at least one.
    """

    def __init__(self, vlm: VLM, forced: ForcedBatch, answers: Sequence[Sequence[int]]) -> None:
        self._vlm = vlm
        self._forced = forced
        self.answers = answers

    @classmethod
    def of(cls, vlm: VLM, inputs: Mapping[str, Any], max_new_tokens: int = MAX_NEW_TOKENS) -> Self:
        """Let the model answer the prompts of `inputs`, padded on the left."""
        answers = answer_tokens(vlm, inputs, max_new_tokens)
        return cls(vlm, ForcedBatch.of(inputs, answers), answers)

    def log_probabilities(self) -> list[Tensor]:
        """Per sample those of its answer's tokens: float64 [answer tokens], in one forward pass."""
        return [
            logits.double().log_softmax(dim=-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
            for logits, answer in zip(self._forced.logits(self._vlm), self.answers, strict=True)
        ]

    def without(self, gone: Sequence[Tensor], layer: int = 1) -> list[Tensor]:
        """The same with visual tokens left out of the layers from `layer` (from 1) on.

        `gone` is bool [n_visual] per sample, and may hold none of them; not all of them.
        """
        schedule = left_from(ModelRef.of(self._vlm), layer, MassKeep(mass=1.0), _GIVEN)
        kept = [(~one).float()[None] for one in gone]
        with prune(self._vlm, schedule, recorded=kept):
            return self.log_probabilities()


def windows(layout: Layout) -> list[Tensor]:
    """The windows of a sample's pictures: bool [n_visual] each, those that hold any token.

    Tokens without area (the ends of rows) lie in none.
    """
    boxes = layout.boxes
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = (centres * CELLS).long().clamp(0, CELLS - 1)  # [n_visual, 2]
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    found = []
    for picture in range(len(layout.grid)):
        own = seen & (layout.image_index == picture)
        for row in range(CELLS - 1):
            for column in range(CELLS - 1):
                offset = cells - torch.tensor([column, row])
                inside = own & ((offset == 0) | (offset == 1)).all(dim=1)
                if inside.any() and not inside.all():
                    found.append(inside)
    return found


def occlusion_map(
    forced: ForcedAnswers, by_sample: Sequence[Sequence[Tensor]], layer: int
) -> list[Tensor]:
    """Importance with windows (see `windows`) gone from `layer` on: per sample float32 [n_visual].

    Samples with fewer windows than others of the batch are run whole in the passes left over.
    """
    whole = [one.sum() for one in forced.log_probabilities()]
    sizes = [0 if not own else len(own[0]) for own in by_sample]
    lost = [torch.zeros(size, dtype=torch.float64) for size in sizes]
    for number in range(max(map(len, by_sample), default=0)):
        gone = [
            own[number] if number < len(own) else torch.zeros(size, dtype=torch.bool)
            for own, size in zip(by_sample, sizes, strict=True)
        ]
        left = forced.without(gone, layer)
        for sample, inside in enumerate(gone):
            lost[sample] += inside * (whole[sample] - left[sample].sum())
    counts = [
        torch.stack(list(own)).sum(dim=0).clamp(min=1) if own else torch.ones(size)
        for own, size in zip(by_sample, sizes, strict=True)
    ]
    return [(one / count).float() for one, count in zip(lost, counts, strict=True)]


def occlusion(run: PromptRun) -> list[Tensor]:
    """The importance of every layer and sample, float32 [layers, 1, n_visual]; see the module.

    Raises `ProbeError` for a model without a layout, and for inputs that cannot be lengthened.
    """
    vlm = run.source
    if not isinstance(vlm, VLM):
        raise ProbeError(
            "importance 'occlusion' needs to know where visual tokens lie: give tl.probe a VLM "
            "(tl.load, or tl.VLM.wrap(model, processor))"
        )
    if run.inputs.get("position_ids") is not None or not run.attended[:, -1].all():
        raise ProbeError(
            "importance 'occlusion' puts an answer behind the prompt; run a plain forward without "
            "position_ids on prompts padded on the left: vlm.model(**vlm.prepare(...))"
        )
    layouts = vlm.layout(run.inputs)
    if not all(layout.placed for layout in layouts):
        raise ProbeError(
            "importance 'occlusion' needs to know where visual tokens lie, which no adapter says "
            "of this model; use a model of a family that `tokenlens models` lists"
        )
    forced = ForcedAnswers.of(vlm, run.inputs)
    by_sample = [windows(layout) for layout in layouts]
    by_layer = [occlusion_map(forced, by_sample, layer) for layer in range(1, vlm.layers + 1)]
    return [torch.stack(maps)[:, None] for maps in zip(*by_layer, strict=True)]


IMPORTANCE = RunImportance(
    occlusion,
    summary=IMPORTANCE_SUMMARIES["occlusion"],
    unit=IMPORTANCE_UNITS["occlusion"],
    source="Zeiler & Fergus, ECCV 2014, arXiv 1311.2901, §4.2",
    by_head=False,
)
