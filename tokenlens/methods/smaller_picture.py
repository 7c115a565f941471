"""A budget met by a smaller picture instead of by stages."""

from bisect import bisect_left
from collections.abc import Callable

from tokenlens.errors import BudgetError
from tokenlens.schedule import BudgetNote, ModelRef, Schedule, Scorer
from tokenlens.selection.solve import Budget, MacsCounter, macs_note, needed


def smaller_picture(
    name: str,
    model: ModelRef,
    target: Budget,
    n_visual: int,
    meter: MacsCounter | None,
    square: Callable[[float | None], int | None],
) -> Schedule:
    """The schedule of method `name`, which shows pictures of fewer tokens and prunes none.

    Args:
        name: of the method.
        model: what the schedule is for.
        target: a budget in tokens or in MACs; the latter needs a `meter`.
        n_visual: visual tokens per sample to solve it for.
        meter: counts MACs in the model.
        square: visual tokens of a square picture at a share of its size, None where that is not
            known; by it the note says what the budget really comes to.
    """
    wanted = _tokens(target, n_visual, meter)
    share = wanted / n_visual
    full, reached = square(None), square(share)
    real = wanted if not full or not reached else n_visual * reached / full
    if not target.in_macs:
        note = target.note(n_visual)
        if full and reached:
            note = BudgetNote(average=round(real / n_visual, 4), n_visual=n_visual)
    else:
        meter = needed(meter, target)
        whole, came_to = (meter.macs((), Scorer(), tokens) for tokens in (n_visual, round(real)))
        average = round(real / n_visual, 4)
        note = macs_note(target, meter, n_visual, average, came_to, whole)
    return Schedule(schema=1, method=name, model=model, image_scale=share, stages=(), budget=note)


def _tokens(target: Budget, n_visual: int, meter: MacsCounter | None) -> float:
    """Visual tokens of a picture that meets the budget."""
    if not target.in_macs:
        tokens = target.tokens(n_visual)
        if not 1 <= tokens <= n_visual:
            raise BudgetError(
                f"budget: a layer average of {tokens:.4g} tokens ({tokens / n_visual:.1%} of "
                f"{n_visual}) is out of reach: with a smaller picture it can be 1 to {n_visual} "
                f"tokens ({1 / n_visual:.1%} to 100.0%); choose a budget in between"
            )
        return tokens
    counting = needed(meter, target)

    def macs(tokens: int) -> float:
        return counting.macs((), Scorer(), tokens)

    least, whole = macs(1), macs(n_visual)
    goal = target.amount * target.unit_of(whole)
    if not least <= goal <= whole * (1 + 1e-9):
        raise BudgetError(
            f"budget: {target} is out of reach: with a smaller picture of 1 to {n_visual} visual "
            f"tokens it can be {least / whole:.1%} to 100.0% of the unpruned prefill's MACs; "
            "choose a budget in between"
        )
    above = min(n_visual, 1 + bisect_left(range(1, n_visual + 1), goal, key=macs))
    return min((max(1, above - 1), above), key=lambda tokens: abs(macs(tokens) - goal))
