"""Many methods at equal budgets on the same samples: from names and budgets to a comparison."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.evaluation.comparing.arms import comparison_arms
from tokenlens.evaluation.comparing.compare import compare as compare_schedules
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.information.curves import Information
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.samples.sample import Sample
from tokenlens.schedule.budget import Budget, parse_budget

OneBudget = Budget | str | int | float


def compare(
    vlm: VLM,
    samples: Sequence[Sample],
    methods: str | Sequence[str],
    budgets: OneBudget | Sequence[OneBudget],
    *,
    profile: Profile | None = None,
    information: Information | None = None,
    out: Path | str | None = None,
    answers: Path | str | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 32,
    any_model: bool = False,
    show_progress: bool = False,
    timed: bool = True,
) -> Comparison:
    """Answer all samples with the unpruned model and by every method at every budget.

    Args:
        vlm: a model with its processor.
        samples: at least one.
        methods: presets by name, "all" of them, and paths of schedule files.
        budgets: budgets that every method must meet: see `Schedule.preset`.
        profile: of this model; chooses the layers of methods that have none of their own. None
            takes the published layers at the same relative depth.
        information: of this model (`tokenlens.information`); gives what each layer needs to the
            methods that use it. None takes these methods' own assumptions.
        out: directory for the rows, in which an interrupted run continues; None keeps no files.
        answers: directory in which answers are kept for later runs of the same model.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off.
        any_model: run schedule files that were made for a model of another id.
        show_progress: show a bar with an ETA on standard error.
        timed: measure the times of the arms, side by side, on a few batches.

    Returns:
        The arms' rows and their tables. A method that cannot meet a budget is left out of its
        table, with the reason in `Comparison.plan`.

    Raises:
        ScheduleError: no method, no such method, or a schedule file that cannot be used.
        BudgetError: no budget, or no method that can meet one.
        SampleError: no samples, or a picture that cannot be used.
        OutputError: `out` holds something else, or cannot be written to.
    """
    wanted = [budgets] if isinstance(budgets, OneBudget) else list(budgets)
    names = [methods] if isinstance(methods, str) else list(methods)
    if not names:
        raise ScheduleError('methods: got none, expected at least one, such as "swiftvlm"')
    if not wanted:
        raise BudgetError('budgets: got none, expected at least one, such as "33%"')
    arms = comparison_arms(
        vlm,
        names,
        list(dict.fromkeys(map(parse_budget, wanted))),
        samples,
        profile=profile,
        information=information,
        any_model=any_model,
    )
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory()) if out is None else out
        found = compare_schedules(
            vlm,
            samples,
            arms.schedules,
            directory,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            any_model=any_model,
            show_progress=show_progress,
            answers=answers,
            timed=timed,
            plan=arms.plan,
        )
        return found.kept() if out is None else found
