"""From what each layer needs of the visual tokens to what each layer is given of them.

In a layer visual tokens are *updated* like text, only *readable* (it makes keys and values of their
states, and leaves them), or *aside* (it has none of them). What is lost is taken to be the sum of
what each layer loses alone, and MACs are bought where they save the most of it: a layer's steps up,
from aside to readable and from readable to updated (or at once, where the first saves less per MAC
than both), are ordered by the loss they save per MAC. This is the greedy rule of the knapsack
problem with choices, which is exact but for the step that the budget cuts through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, isinf
from typing import Literal, NamedTuple

from tokenlens.schedule import Keep, Scorer, Stage
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.solve import MacsCounter

Mode = Literal["updated", "readable", "aside"]

SMALLEST_GAIN = 1e-3
"""Of the largest gain: a step that saves less per MAC is not *needed*."""
USUAL_COST = 0.1
"""Of a readable token beside an updated one, where it is not known: between grouped queries (3 to
6 %) and full multi-head attention (16 %)."""
_LEAST = 1e-9
_NO_SCORING = Scorer(query="uniform")


class Step(NamedTuple):
    """One step up of one layer: the loss it saves per cost, the layer from 0, and its mode then."""

    gain: float
    layer: int
    mode: Mode


class Given(NamedTuple):
    """What a layer is given: its mode, and the share of the tokens that are updated beside it."""

    mode: Mode
    updated: float = 0.0


def ordered_steps(needs: LayerNeeds, readable_cost: float) -> list[Step]:
    """All steps up, those that save most per cost first, ties to the shallower layer.

    Args:
        needs: what layers lose.
        readable_cost: of a readable token beside an updated one, in (0, 1).

    >>> needs = LayerNeeds(update=(2.0, 0.1), read=(2.0, 1.0))
    >>> [(step.layer, step.mode) for step in ordered_steps(needs, 0.1)]
    [(1, 'readable'), (0, 'updated'), (1, 'updated')]
    """
    steps = []
    for layer, (update, read) in enumerate(zip(needs.update, needs.read, strict=True)):
        whole = max(update, read)
        first = inf if isinf(whole) else (whole - update) / readable_cost
        second = update / (1 - readable_cost)
        if isinf(update) or first < second:
            steps.append(Step(whole, layer, "updated"))
        else:
            steps += [Step(first, layer, "readable"), Step(second, layer, "updated")]
    return sorted(steps, key=lambda step: -step.gain)


def readable_cost(meter: MacsCounter | None, layers: int, n_visual: int) -> float | None:
    """The MACs of a readable token beside those of an updated one, in a model of `layers`.

    Both beside a token that is aside, among `n_visual`. None without a meter.
    """
    if meter is None:
        return None
    aside, readable, updated = (
        meter.macs(
            stages_of([*[Given("updated", 1.0)] * (layers - 1), last]), _NO_SCORING, n_visual
        )
        for last in (Given("aside"), Given("readable"), Given("updated", 1.0))
    )
    return (readable - aside) / (updated - aside)


@dataclass(frozen=True)
class ModePath:
    """A ratio rule (see `tokenlens.selection.solve`): from no visual token to all in every layer.

    Up to λ = 1/2 the layers have their needed modes, for the share 2λ of the tokens, evenly spaced;
    the others are dropped where the first are updated. From there on all tokens are there, and the
    steps that are left are taken in order, the last of them for some of the tokens.

    Attributes:
        needed: the modes of all layers that are needed.
        later: the steps after these, in order.
        readable_cost: of a readable token beside an updated one; 0 where only updated ones count.
    """

    needed: tuple[Mode, ...]
    later: tuple[Step, ...]
    readable_cost: float

    @classmethod
    def of(cls, needs: LayerNeeds, readable_cost: float | None) -> "ModePath":
        """The path of a model's needs, with what a readable token costs beside an updated one.

        None is for budgets that count updated tokens alone. Needed is a step that saves at least
        `SMALLEST_GAIN` of what the first one saves. Tokens that are readable before any layer
        updates them are left for later.
        """
        steps = ordered_steps(needs, readable_cost or USUAL_COST)
        best = next((step.gain for step in steps if not isinf(step.gain)), 0.0)
        wanted = [step for step in steps if step.gain >= SMALLEST_GAIN * best]
        wanted = [step for step in wanted if step.gain > 0] or steps[:1]
        start = min((one.layer for one in wanted if one.mode == "updated"), default=None)
        if start is None:
            start = min(one.layer for one in wanted)
            wanted.append(Step(0.0, start, "updated"))
        first = [step for step in wanted if step.layer >= start]
        taken = {(step.layer, step.mode) for step in first}
        later = [step for step in steps if (step.layer, step.mode) not in taken]
        modes: list[Mode] = ["aside"] * needs.layers
        _take(modes, first)
        return cls(tuple(modes), tuple(later), readable_cost or 0.0)

    def __call__(self, _: Sequence[Stage], share: float) -> list[Stage]:
        """The stages at λ = `share`."""
        if share < 0.5:
            return self._of_some(max(2 * share, _LEAST))
        place = (2 * share - 1) * len(self.later)
        done = min(floor(place), len(self.later))
        modes = list(self.needed)
        _take(modes, self.later[:done])
        given = [Given(mode, float(mode == "updated")) for mode in modes]
        if done < len(self.later):
            self._take_part(given, done, place - done)
        return stages_of(given)

    def _of_some(self, share: float) -> list[Stage]:
        """The needed modes, for a share of the tokens."""
        given = [Given(mode, share if mode == "updated" else 0.0) for mode in self.needed]
        stages = stages_of(given)
        first = next(place for place, stage in enumerate(stages) if stage.keep != "none")
        stages[first] = stages[first].model_copy(update={"disposal": "drop"})
        return stages

    def _take_part(self, given: list[Given], place: int, part: float) -> None:
        """Update the tokens that the part of a step costs, in the next layer that is updated."""
        following = (step for step in self.later[place:] if step.mode == "updated")
        step = next(following, None)
        if step is None:
            return
        if self.later[place].mode == "readable":
            part *= self.readable_cost
        given[step.layer] = Given(given[step.layer].mode, part)


@dataclass(frozen=True)
class FreezingPath:
    """A ratio rule by which visual tokens are readable in all layers, and updated in some.

    The share λ of the layers updates them, those that lose most without come first; one of them
    updates some (ShortV, arXiv 2504.00502).
    """

    needs: LayerNeeds

    def __call__(self, _: Sequence[Stage], share: float) -> list[Stage]:
        """The stages at λ = `share`."""
        update = self.needs.update
        order = sorted(range(len(update)), key=lambda layer: -update[layer])
        given = [Given("readable")] * len(update)
        left = share * len(update)
        for layer in order:
            given[layer] = Given("readable", min(1.0, max(0.0, left)))
            left -= 1
        return stages_of(given)


def stages_of(given: Sequence[Given]) -> list[Stage]:
    """The stages that give every layer, the first one first, what is said; one at least.

    Which tokens are updated where only some are is up to the scorer.

    >>> [stage.score_layer for stage in stages_of([Given("updated", 1.0), Given("aside")])]
    [2]
    """
    visible = [place for place, one in enumerate(given) if one != Given("aside")]
    end = visible[-1] if visible else -1
    stages: list[Stage] = []
    before: tuple[Keep, str] = (1.0, "")
    for place, one in enumerate(given):
        keep: Keep = one.updated if one.updated > 0 else "none"
        disposal = "bypass" if one.mode == "aside" else "freeze"
        if place > end:
            disposal = "drop"
        now = (keep, "" if keep == 1.0 else disposal)
        if now != before:
            stages.append(_stage(place + 1, keep, disposal))
        before = now
    if stages and stages[-1].disposal == "bypass":  # nothing is behind it to come back to
        stages[-1] = stages[-1].model_copy(update={"disposal": "drop"})
    return stages or [_stage(len(given), 1.0, "drop")]


def _stage(layer: int, keep: Keep, disposal: str) -> Stage:
    return Stage(score_layer=layer, when="before", keep=keep, disposal=disposal)


def _take(modes: list[Mode], steps: Sequence[Step]) -> None:
    for step in steps:
        modes[step.layer] = step.mode
