"""What does each part of the method add? One part after another, at equal budget.

    python -m tokenlens.analyses.studies.ablation --budget 33% --budget 22%

The paper's Table 3 in kind (SwiftVLM, arXiv 2602.03134): PDrop with kept positions; then its drops
at the layers chosen from a profile; then merged tokens for what is not kept; then the bypass, which
is the whole method. One row goes beyond the paper: the bypass without merged tokens. Two tables
are printed as Markdown: what each retains, and the difference of each from the row before it on the
same samples.

Deviations from the paper: where PDrop's own stages cannot meet a small budget, its authors' earlier
stages are used; the table shows the layers of every row. The last
stage of the merging row drops, as the bypass's last stage does, so that the next step adds the
bypass alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from tokenlens.methods import find_method
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.selection.solve import Budget, solved_schedule

from . import equal_budget

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

STEPS = {
    "pdrop": "PDrop with kept positions",
    "selection": "+ layer selection",
    "merging": "+ merging",
    "bypass": "+ bypass (SwiftVLM)",
    "unmerged": "\N{MINUS SIGN} merging (bypass alone)",
}
"""Names of the arms and their names in the table; each arm adds one step to the one before."""
PAIRS = {step: (step, before) for before, step in pairwise(STEPS)}
"""Each step is compared with the one before."""


def schedules(
    vlm: VLM | ModelRef, budget: Budget, layers: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every step at one budget, in the order of `STEPS`.

    Args:
        vlm: the model, or what a schedule says of it.
        budget: visual tokens entering a layer, mean over layers.
        layers: the chosen layers, counted from 1.
        n_visual: visual tokens per sample that the budget is solved for.

    Raises:
        BudgetError: a step cannot meet the budget; the message says what it can.
    """
    model = vlm if isinstance(vlm, ModelRef) else ModelRef.of(vlm)

    def preset(name: str) -> Schedule:
        return Schedule.preset(name, model, budget=budget, layers=layers, n_visual=n_visual)

    pdrop, _ = find_method("pdrop-keep-positions").build_or_earlier(
        model, budget=budget, n_visual=n_visual
    )
    merging = [
        stage.model_copy(update={"disposal": "merge"} if stage.merge else {})
        for stage in swiftvlm_stages(layers)
    ]
    return {
        "pdrop": pdrop,
        "selection": preset("drop"),
        "merging": solved_schedule("merging", model, merging, budget, n_visual=n_visual),
        "bypass": preset("swiftvlm"),
        "unmerged": preset("swiftvlm-unmerged"),
    }


STUDY = equal_budget.Study(
    kind="ablation",
    description="Each part of SwiftVLM added in turn, at equal budget.",
    names=STEPS,
    schedules=schedules,
    pairs=PAIRS,
    against="step, against the row before",
)
compute, plot, markdown, main = STUDY.compute, STUDY.plot, STUDY.markdown, STUDY.main

if __name__ == "__main__":
    main()
