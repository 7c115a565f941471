"""Starting points of a search: every preset, and the layers of a profile where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenlens.errors import BudgetError
from tokenlens.evaluation.comparing.arms import comparison_arms
from tokenlens.evaluation.information.curves import Information
from tokenlens.methods import find_method
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.registry import METHODS
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.schedule.budget import Budget


@dataclass(frozen=True)
class Start:
    """A schedule that is tried before anything is proposed.

    Attributes:
        name: the preset and the source of its layers.
        schedule: schedule solved for the budget.
        budget: budget of the schedule.
    """

    name: str
    schedule: Schedule
    budget: Budget


def starting_points(
    vlm: VLM,
    samples: Sequence[Sample],
    budgets: Sequence[Budget],
    profile: Profile | None,
    information: Information | None = None,
    n_visual: int | None = None,
) -> list[Start]:
    """Every preset at every budget that it can meet, in the order of the budgets given.

    With a profile, presets that take its layers are included with these too; the first of them is
    the schedule of `tokenlens select-layers`. An information profile tells presets that go by what
    each layer needs (`tokenlens`, `shortv`), which assume it otherwise. A preset that the engine
    refuses for this model is left out. Budgets are solved for `n_visual` visual tokens per sample;
    None takes those of the profile's samples, or of a square picture.

    Raises `BudgetError` where no preset can meet any of the budgets.
    """
    planned = [name for name in METHODS if find_method(name).layers_from == "profile"]
    found: list[Start] = []
    refused: BudgetError | None = None
    for budget in budgets:
        try:
            found += _arms(vlm, samples, budget, list(METHODS), None, information, n_visual)
            if profile is not None:
                found += _arms(vlm, samples, budget, planned, profile, None, n_visual)
        except BudgetError as error:
            refused = error
    if not found and refused is not None:
        raise refused
    return found


def _arms(
    vlm: VLM,
    samples: Sequence[Sample],
    budget: Budget,
    names: Sequence[str],
    profile: Profile | None,
    information: Information | None,
    n_visual: int | None,
) -> list[Start]:
    arms = comparison_arms(
        vlm,
        names,
        [budget],
        samples,
        profile=profile,
        information=information,
        n_visual=n_visual,
    )
    suffix = "" if profile is None else ", layers of the profile"
    return [
        Start(f"{name}{suffix}", arms.schedules[arm], budget)
        for name, arm in arms.budgets.get(str(budget), {}).items()
    ]
