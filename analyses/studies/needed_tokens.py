"""What does each part of the preset `tokenlens` add? One part after another, at equal budget.

    python -m tokenlens.analyses.studies.needed_tokens --budget "40% MACs" --budget "30% MACs"

The steps are: evenly spaced tokens in all layers; then no tokens after the last layer that needs
any, so that earlier layers can have more; then all tokens, updated only in layers that need it and
readable in the others; then tokens set aside in layers that do not read them; then, of that and the
other paths of `tokenlens.selection.candidate_paths`, the one that loses least on the profile's
samples, which is the preset.
Two tables are printed as Markdown: what each retains, and its difference from the row before on the
same samples. The needs of each layer come from the newest information profile; without one, it is
measured on all calibration samples. Budgets should be given in MACs: a budget in tokens does not
count readable tokens, which also cost MACs.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING

from tokenlens.evaluation.comparing.arms import information_for
from tokenlens.evaluation.information.measure import information
from tokenlens.samples.dataset import load_samples
from tokenlens.schedule import Schedule
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.layer_modes import ModePath
from tokenlens.selection.solve import Budget
from tokenlens.storage.output_paths import information_directory

from . import command, equal_budget

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

STEPS = {
    "stride": "evenly spaced tokens",
    "horizon": "+ gone after the last layer that needs them",
    "freeze": "+ readable where they need no update",
    "aside": "+ set aside where they are not read",
    "paths": "the path that loses least on calibration samples (tokenlens)",
}
"""Names of the arms and their names in the table; each arm adds one step to the one before."""
PAIRS = {step: (step, before) for before, step in pairwise(STEPS)}
"""Each step is compared with the one before."""


def needs_of_steps(needs: LayerNeeds) -> dict[str, LayerNeeds]:
    """Needs of each layer that the steps after the first assume.

    >>> steps = needs_of_steps(LayerNeeds((0.0, 2.0, 0.0, 0.0), (0.0, 2.0, 1.0, 0.0)))
    >>> steps["horizon"].update, steps["horizon"].read
    ((1.0, 1.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.0))
    >>> steps["freeze"].update, steps["freeze"].read
    ((0.0, 2.0, 0.0, 0.0), (2.0, 2.0, 2.0, 0.0))
    """
    modes = ModePath.of(needs, None).needed
    last = max(place for place, mode in enumerate(modes) if mode != "aside")
    until = [place <= last for place in range(needs.layers)]
    most = max(*needs.update, *needs.read)
    everywhere = tuple(map(float, until))
    update = tuple(need * there for need, there in zip(needs.update, until, strict=True))
    return {
        "horizon": LayerNeeds(everywhere, everywhere),
        "freeze": LayerNeeds(update, tuple(most * there for there in until)),
        "aside": replace(needs, paths=()),
        "paths": needs,
    }


def schedules(
    needs: LayerNeeds, vlm: VLM, budget: Budget, _: Sequence[int], n_visual: int
) -> dict[str, Schedule]:
    """The schedule of every step at one budget, in the order of `STEPS`.

    Args:
        needs: needs of each layer of the model.
        vlm: the model.
        budget: budget that every step must meet.
        n_visual: visual tokens per sample that the budget is solved for.

    Raises:
        BudgetError: a step cannot meet the budget; the message says what it can.
    """
    preset = partial(Schedule.preset, model=vlm, budget=budget, n_visual=n_visual)
    found = {"stride": preset("stride")}
    for step, told in needs_of_steps(needs).items():
        found[step] = preset("tokenlens", needs=told)
    return found


def study(needs: LayerNeeds) -> equal_budget.Study:
    """The study for a model with these needs."""
    return equal_budget.Study(
        kind="needed-tokens",
        description="Each part of the preset tokenlens added in turn, at equal budget.",
        names=STEPS,
        schedules=partial(schedules, needs),
        pairs=PAIRS,
        against="step, against the row before",
    )


def main() -> None:
    """Profile the model where there is no profile yet, run, and print both tables."""
    parser = command.arguments("needed_tokens", "Each part of the preset tokenlens added in turn.")
    command.run(parser, _tables)


def _tables(options: Namespace) -> str:
    setting = command.Setting.of(options, "needed-tokens")
    found = information_for(setting.vlm)
    if found is None:
        samples = load_samples(options.data, "calibration")
        directory = information_directory(options.model, samples.name, len(samples))
        found = information(setting.vlm, samples, directory, show_progress=True)
    made = study(found.needs)
    table = made.compute(
        setting.vlm,
        setting.held_out,
        dict.fromkeys(setting.budgets, ()),
        setting.out,
        n_visual=round(mean(len(row.positions) for row in setting.profile.rows())),
        batch_size=setting.batch_size,
        show_progress=True,
    )
    return made.markdown(table)


if __name__ == "__main__":
    main()
