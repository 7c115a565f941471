"""What a reader should know of a chosen schedule, one sentence each."""

from tokenlens.schedule import BudgetNote, Schedule
from tokenlens.schedule.token_counts import stage_counts
from tokenlens.selection.criteria import Capability, Evidence
from tokenlens.selection.solve import Budget

BEST_LAYER = "each task's best layer"
_CROWDED = 0.4
"""Merged tokens' share of what the first stage leaves, above which there is a note."""


def on_regions(evidence: Evidence) -> list[str]:
    """What scores by regions are relative to, and how many samples have one."""
    scored, profiled = sum(map(len, evidence.scores.values())), len(evidence.n_visual)
    notes = [f"scores are relative to {BEST_LAYER}: 1 is a layer that is the best in every task"]
    if scored != profiled:
        notes.append(
            f"{scored} of {profiled} samples have a region that covers a visual token and are "
            "scored by"
        )
    return notes


def on_reruns(capability: Capability) -> list[str]:
    """What scores by re-runs are relative to, and which tasks are left out."""
    scored = sum(map(len, capability.scores.values()))
    notes = [f"scores are relative to the unpruned model's, over {scored} samples"]
    if capability.left_out:
        tasks = ", ".join(map(repr, capability.left_out))
        notes.append(f"the unpruned model scores 0 in {tasks}: not counted")
    return notes


def on_sizes(evidence: Evidence, n_visual: int) -> list[str]:
    """That samples differ in their number of visual tokens, where they do."""
    least, most = evidence.n_visual.min(), evidence.n_visual.max()
    if least == most:
        return []
    return [
        f"samples have {least} to {most} visual tokens: the budget is met at their mean, "
        f"{n_visual}, and in the same ratios elsewhere"
    ]


def on_merging(schedule: Schedule, n_visual: int) -> list[str]:
    """Where merged tokens crowd out kept ones; docs/results/ablation.md has what that costs."""
    first = stage_counts(schedule.stages, n_visual)[0]
    share = first.merged / first.alive
    if share <= _CROWDED:
        return []
    return [
        f"{first.merged} of the {first.alive} visual tokens after the first stage are merged ones "
        f"({share:.0%}), which is much; --merge 0 gives their place to tokens that are kept"
    ]


def on_budget(target: Budget, note: BudgetNote | None) -> list[str]:
    """What a budget in MACs counts, and how near whole tokens come to a budget."""
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
