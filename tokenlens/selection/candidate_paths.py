"""Paths that the preset `tokenlens` chooses from, all made of what each layer needs.

A path is a ratio rule (see `tokenlens.selection.solve`), from no visual token to all of them. The
first one, `modes`, goes by the needs of each layer alone (`ModePath`). They do not always add up:
in a decoder whose every layer works on visual tokens, any layer can be spared and most of them
together cannot. The others therefore update a share of the tokens in a share of the layers, and
which of them loses least is measured (`tokenlens.evaluation.information.paths`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, isinf

from tokenlens.errors import BudgetError
from tokenlens.schedule import Schedule, Scorer, Stage
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.layer_modes import SMALLEST_GAIN, Given, Mode, ModePath, stages_of
from tokenlens.selection.solve import RatioRule

UPDATED = (0.55, 0.7, 0.85, 1.0)
"""Shares of the layers up to the last one that reads in which tokens are updated."""
FIRST_CHOICE = 3
"""The first layer whose attention may choose (SwiftVLM, arXiv 2602.03134)."""
SMALL_NEED = 0.01
"""Of the largest need: a layer that needs less may choose, as the tokens are ready by then."""

_LEAST = 1e-9
_THINNING = {"all": None, "even": Scorer(query="uniform"), "diverse": Scorer(query="diverse")}
_BY_TEXT = Scorer(query="raters", decay="divide")


@dataclass(frozen=True)
class LadderPath:
    """A ratio rule: fewer tokens, updated in some layers, readable in others, gone behind these.

    At λ the share λ of the tokens is left: by `thinning` alone, or by the text at layer `choice`,
    behind which the share λ is left; `thinning` leaves √λ before it, so that both take the same
    part. What is not left is dropped, and positions are kept.

    Attributes:
        modes: of all layers; those up to `choice` are updated.
        thinning: scorer of the tokens that are left in the first layer that updates; None leaves
            all of them.
        choice: the layer, counted from 1, before which tokens are chosen by the words that look at
            the picture (scorer "raters", nearness set aside); None where none chooses.
    """

    modes: tuple[Mode, ...]
    thinning: Scorer | None
    choice: int | None

    def __call__(self, _: Sequence[Stage], share: float) -> list[Stage]:
        """The stages at λ = `share`."""
        left = max(share, _LEAST)
        early = 1.0 if self.thinning is None else left**0.5
        given = [
            Given(mode, (early if layer < (self.choice or 0) else left) * (mode == "updated"))
            for layer, mode in enumerate(self.modes, start=1)
        ]
        stages = stages_of(given)
        updating = [place for place, stage in enumerate(stages) if stage.keep != "none"]
        if self.thinning is not None and updating:
            stages[updating[0]] = _dropping(stages[updating[0]], self.thinning)
        return [
            _dropping(stage, _BY_TEXT) if stage.first_layer == self.choice else stage
            for stage in stages
        ]


def candidate_paths(needs: LayerNeeds, readable_cost: float | None) -> dict[str, RatioRule]:
    """The paths by name, `modes` first; see `ModePath.of` for the arguments.

    >>> needs = LayerNeeds.assumed(8)
    >>> list(candidate_paths(needs, None))[:3]
    ['modes', 'all, text, 55 %', 'all, text, 70 %']
    """
    paths: dict[str, RatioRule] = {"modes": ModePath.of(needs, readable_cost)}
    last, choice = last_reading(needs), choosing_layer(needs)
    for name, thinning in _THINNING.items():
        for chooser in (choice, None):
            if (chooser is None and thinning is None) or (chooser or 0) > last:
                continue
            for share in UPDATED:
                modes = _modes(needs, last, round(share * last), chooser or 1)
                way = f"{name}, text" if chooser else name
                paths[f"{way}, {share:.0%}".replace("%", " %")] = LadderPath(
                    modes, thinning, chooser
                )
    return paths


def last_reading(needs: LayerNeeds) -> int:
    """The last layer, counted from 1, that visual tokens are read or updated in to some end.

    >>> last_reading(LayerNeeds((1.0, 0.5, 0.0, 0.0), (1.0, 0.5, 0.2, 0.0001)))
    3
    """
    whole = [max(pair) for pair in zip(needs.update, needs.read, strict=True)]
    return max(
        (layer for layer, need in enumerate(whole, start=1) if need >= _least(whole)), default=1
    )


def choosing_layer(needs: LayerNeeds) -> int:
    """The first layer from `FIRST_CHOICE` on that visual tokens need little to be updated by.

    >>> choosing_layer(LayerNeeds((4.0, 0.1, 1.0, 0.002), (4.0, 0.1, 1.0, 0.002)))
    4
    """
    most = _largest(needs.update)
    return next(
        (
            layer
            for layer, need in enumerate(needs.update, start=1)
            if layer >= FIRST_CHOICE and need < SMALL_NEED * most
        ),
        FIRST_CHOICE,
    )


def least_loss(
    needs: LayerNeeds,
    paths: Mapping[str, RatioRule],
    solved: Callable[[Sequence[Stage], RatioRule], Schedule],
    macs_share: float | Callable[[Schedule], float],
) -> Schedule:
    """The schedule of the path that loses least by what was measured.

    Args:
        needs: needs of the layers; their `paths` say what is lost on each path. The first path is
            taken where nothing was measured, or not at so few MACs.
        paths: the paths by name.
        solved: makes the schedule of a path's stages; raises `BudgetError` where that cannot meet
            the budget.
        macs_share: share of the unpruned MACs that every schedule takes, or where the budget does
            not say it, a function that tells the share of each.

    Raises:
        BudgetError: no path can meet the budget; it is the first one's.
    """
    refusals: list[BudgetError] = []
    measured = {one.path: one for one in needs.paths}

    @cache
    def schedule_of(name: str) -> Schedule | None:
        try:
            return solved(paths[name]((), 0.5), paths[name])
        except BudgetError as error:
            refusals.append(error)
            return None

    def loss(name: str) -> float:
        if name not in measured:
            return inf
        if isinstance(macs_share, float):
            return measured[name].at(macs_share)
        schedule = schedule_of(name)
        return inf if schedule is None else measured[name].at(macs_share(schedule))

    for name in sorted(paths, key=loss):
        schedule = schedule_of(name)
        if schedule is not None:
            return schedule
    raise refusals[0]


def _modes(needs: LayerNeeds, last: int, updated: int, whole: int) -> tuple[Mode, ...]:
    """The `updated` layers up to `last` that need it most are updated, and those up to `whole`."""
    order = sorted(range(last), key=lambda place: (-needs.update[place], place))
    chosen = {*order[:updated], *range(whole)}
    return tuple(
        "updated" if place in chosen else "readable" if place < last else "aside"
        for place in range(needs.layers)
    )


def _dropping(stage: Stage, scorer: Scorer) -> Stage:
    return stage.model_copy(update={"disposal": "drop", "scorer": scorer})


def _largest(needs: Sequence[float]) -> float:
    return max((need for need in needs if not isinf(need)), default=0.0)


def _least(needs: Sequence[float]) -> float:
    return max(SMALLEST_GAIN * _largest(needs), _LEAST)
