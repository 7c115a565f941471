"""Does the bypass improve the score? Chosen layers with and without it, and one early drop.

    python -m tokenlens.analyses.studies.baselines --budget 33% --budget 22%

At every budget (visual tokens entering a layer, mean over layers) five ways of pruning are run on
the same held-out samples: the chosen layers with bypass, the same without merged tokens, the same
layers with the other tokens dropped, one drop after layer 2, and one random drop there. Two
tables are printed as Markdown: what each retains, and the difference of the bypass from each of the
others on the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenlens.schedule import Schedule
from tokenlens.selection.solve import Budget

from . import equal_budget

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

METHODS = {
    "swiftvlm": "selected layers, bypass",
    "unmerged": "the same layers, bypass without merged tokens",
    "drop": "the same layers, drop",
    "fastv": "one drop after a layer",
    "random": "one random drop after a layer",
}
"""Names of the arms and their names in the table."""
BYPASS = "swiftvlm"
PAIRS = {method: (BYPASS, method) for method in METHODS if method != BYPASS}
"""Methods that the bypass is compared with."""


def schedules(
    vlm: VLM, budget: Budget, layers: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every method at one budget, in the order of `METHODS`."""

    def preset(name: str, chosen: Sequence[int] | None = None) -> Schedule:
        return Schedule.preset(name, vlm, budget=budget, layers=chosen, n_visual=n_visual)

    return {
        "swiftvlm": preset("swiftvlm", layers),
        "unmerged": preset("swiftvlm-unmerged", layers),
        "drop": preset("drop", layers),
        "fastv": preset("fastv"),
        "random": preset("random"),
    }


STUDY = equal_budget.Study(
    kind="baselines",
    description="The chosen layers with and without bypass against one early drop.",
    names=METHODS,
    schedules=schedules,
    pairs=PAIRS,
    against="the bypass against",
)
compute, plot, main = STUDY.compute, STUDY.plot, STUDY.main
markdown, differences_markdown = STUDY.retained_markdown, STUDY.leads_markdown

if __name__ == "__main__":
    main()
