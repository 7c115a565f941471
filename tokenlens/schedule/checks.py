"""Checks of a schedule's scorers and stages against its model and each other."""

from collections.abc import Sequence
from itertools import pairwise

from tokenlens.errors import ScheduleError
from tokenlens.schedule.disposal_kinds import disposal_kind
from tokenlens.schedule.parts import Scorer, Stage


def check_scorer(where: str, scorer: Scorer, layers: int) -> None:
    """Raise `ScheduleError` where a scorer names a layer that the model has not."""
    if scorer.layer is not None and scorer.layer > layers:
        raise ScheduleError(
            f"{where}.layer: got {scorer.layer}, expected a layer up to {layers}, for model.layers "
            f"{layers}"
        )
    deepest = max((layer for layer, _ in scorer.listed_heads), default=0)
    if deepest > layers:
        raise ScheduleError(
            f"{where}.heads: got a head of layer {deepest}, expected layers up to {layers}, for "
            f"model.layers {layers}"
        )


def check_range(stages: Sequence[Stage], layers: int) -> None:
    """Raise `ScheduleError` where no layer is left to run on a stage's fewer tokens."""
    for index, stage in enumerate(stages):
        if stage.first_layer > layers:
            raise ScheduleError(
                f"stages[{index}].score_layer: got {stage.when!r} layer {stage.score_layer}, "
                f"expected a layer that leaves one to run on fewer tokens: 'after' at most "
                f"{layers - 1} or 'before' at most {layers}, for model.layers {layers}"
            )


def check_order(stages: Sequence[Stage]) -> None:
    """Raise `ScheduleError` for stages out of order, and for tokens that never come back."""
    for index, (stage, following) in enumerate(pairwise(stages), start=1):
        if following.first_layer <= stage.first_layer:
            raise ScheduleError(
                f"stages[{index}].score_layer: got {following.when!r} layer "
                f"{following.score_layer}, so that layer {following.first_layer} is the first on "
                f"fewer tokens; expected one deeper than layer {stage.first_layer}, the first of "
                f"stages[{index - 1}]"
            )
        if disposal_kind(stage.disposal).returns and following.when != "before":
            raise ScheduleError(
                f"stages[{index}].when: got 'after', expected 'before' since stages[{index - 1}] "
                f"is a {stage.disposal}: its tokens come back before a layer is scored"
            )
    last = disposal_kind(stages[-1].disposal) if stages else None
    if last is not None and last.returns and not last.readable:
        raise ScheduleError(
            f"stages[{len(stages) - 1}].disposal: got {stages[-1].disposal!r} at the last stage, "
            "expected 'drop', 'merge' or 'freeze': no later stage brings the tokens back"
        )
