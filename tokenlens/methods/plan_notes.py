"""What a person should know of a choice of layers and its budget, a sentence each."""

from tokenlens.schedule import BudgetNote, Schedule
from tokenlens.schedule.budget import Budget
from tokenlens.schedule.token_counts import stage_counts
from tokenlens.selection.criteria import Capability, Evidence

BEST_LAYER = "each task's best layer"
_CROWDED = 0.4
"""Merged tokens' share of what the first stage leaves, above which there is a note."""


def plan_notes(
    evidence: Evidence,
    measured: Capability | None,
    budget: Budget,
    schedule: Schedule,
    n_visual: int,
) -> tuple[str, ...]:
    """The notes on a schedule that meets `budget` at `n_visual` tokens; `measured` by re-runs."""
    return (
        *(_notes_on_reruns(measured) if measured else _notes_on_regions(evidence)),
        *_notes_on_sizes(evidence, n_visual),
        *_notes_on_budget(budget, schedule.budget),
        *_notes_on_merging(schedule, n_visual),
    )


def _notes_on_regions(evidence: Evidence) -> list[str]:
    scored, profiled = sum(map(len, evidence.scores.values())), len(evidence.n_visual)
    notes = [f"scores are relative to {BEST_LAYER}: 1 is a layer that is the best in every task"]
    if scored != profiled:
        notes.append(
            f"{scored} of {profiled} samples have a region that covers a visual token and are "
            "scored by"
        )
    return notes


def _notes_on_reruns(capability: Capability) -> list[str]:
    scored = sum(map(len, capability.scores.values()))
    notes = [f"scores are relative to the unpruned model's, over {scored} samples"]
    if capability.left_out:
        tasks = ", ".join(map(repr, capability.left_out))
        notes.append(f"the unpruned model scores 0 in {tasks}: not counted")
    return notes


def _notes_on_sizes(evidence: Evidence, n_visual: int) -> list[str]:
    least, most = evidence.n_visual.min(), evidence.n_visual.max()
    if least == most:
        return []
    return [
        f"samples have {least} to {most} visual tokens: the budget is met at their mean, "
        f"{n_visual}, and in the same ratios elsewhere"
    ]


def _notes_on_merging(schedule: Schedule, n_visual: int) -> list[str]:
    """Where merged tokens crowd out kept ones; docs/results/ablation.md has what that costs."""
    first = stage_counts(schedule.stages, n_visual)[0]
    share = first.merged / first.alive
    if share <= _CROWDED:
        return []
    return [
        f"{first.merged} of the {first.alive} visual tokens after the first stage are merged ones "
        f"({share:.0%}), which is much; --merge 0 gives their place to tokens that are kept"
    ]


def _notes_on_budget(target: Budget, note: BudgetNote | None) -> list[str]:
    notes = []
    if note is not None and note.n_text is not None:
        notes.append(
            f"{target} are of the prefill of {note.n_visual} visual and {note.n_text} text tokens, "
            "those of a question of 15 words in the model's chat template"
        )
    if note is not None and note.reached is not None:
        came_to = Budget(note.reached, target.unit)
        notes.append(f"of {target}, {came_to} is the nearest that whole tokens come to")
    return notes
