"""Cost of a schedule in a model, by part, beside the unpruned model's and the papers' formulas."""

from dataclasses import dataclass
from typing import Any

from tokenlens.models.prompt_lengths import USUAL_SIZE, PromptLengths, typical_prompt
from tokenlens.models.structure import text_config
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.forecast import Forecast, forecast
from tokenlens.pruning.cost.formulas import FORMULAS, Formula, published_macs
from tokenlens.pruning.cost.request import refuse_both
from tokenlens.pruning.refusals import refuse_schedule
from tokenlens.schedule import BudgetNote, Schedule
from tokenlens.schedule.token_counts import at_most

ASSUMED_VISUAL = 576
"""Visual tokens of a prompt where nothing says how many there are: those of LLaVA-1.5."""
ASSUMED_TEXT = 64
"""Text tokens, likewise: a question of a line in a chat template."""


@dataclass(frozen=True)
class PublishedCost:
    """A published formula's MACs of the pruned and of the unpruned prefill."""

    formula: Formula
    pruned: float
    unpruned: float


@dataclass(frozen=True)
class CostReport:
    """The cost of one prompt.

    Attributes:
        schedule: the schedule.
        prompt: token counts of the prompt.
        dtype: type in which keys and values are stored.
        pruned: cost under the schedule.
        unpruned: cost without it.
        published: cost by each published formula.
        worst: as `pruned`, with every stage keeping the most that it can; None where no stage keeps
            by mass, since `pruned` is then exact.
        notes: what a reader should know, a sentence each.
    """

    schedule: Schedule
    prompt: PromptLengths
    dtype: str
    pruned: Forecast
    unpruned: Forecast
    published: tuple[PublishedCost, ...]
    notes: tuple[str, ...]
    worst: Forecast | None = None

    def parts(self) -> dict[str, tuple[float, float]]:
        """MACs by part and in total: unpruned, pruned."""
        both = (self.unpruned.macs, self.pruned.macs)
        found = {name: (getattr(both[0], name), getattr(both[1], name)) for name in both[0]._fields}
        return {**found, "total": (both[0].total, both[1].total)}

    def as_json(self) -> dict[str, Any]:
        """All of it, in tokens, MACs and bytes."""
        pairs = {
            name: {"unpruned": first, "pruned": second}
            for name, (first, second) in self.parts().items()
        }
        return {
            "schedule": self.schedule.as_json(),
            "prompt": {**self.prompt._asdict(), "text": self.prompt.text},
            "tokens_per_layer": list(self.pruned.tokens_per_layer),
            "readable_per_layer": list(self.pruned.readable_per_layer),
            "average": self.pruned.average,
            "macs": pairs,
            "kv_bytes": {"unpruned": self.unpruned.kv_bytes, "pruned": self.pruned.kv_bytes},
            "kv_bytes_exact": self.pruned.keys_exact,
            "dtype": self.dtype,
            "published": [
                {
                    "methods": row.formula.methods,
                    "counts": row.formula.counts,
                    "unpruned": row.unpruned,
                    "pruned": row.pruned,
                }
                for row in self.published
            ],
            "notes": list(self.notes),
            **({} if self.worst is None else {"worst": _worst_json(self.worst)}),
        }


def prompt_for(
    vlm: VLM,
    note: BudgetNote | None = None,
    *,
    picture: tuple[int, int] | None = None,
    n_visual: int | None = None,
    n_text: int | None = None,
) -> PromptLengths:
    """The prompt to count for.

    Args:
        vlm: a model; its weights are not needed. Without a processor, which says how long prompts
            are, what is not given or noted is assumed; see `assumption`.
        note: of a schedule, for the numbers it was solved for.
        picture: width and height of a picture, where its tokens are to be counted.
        n_visual: visual tokens, where they are known; by default the note's, or those of a square
            picture.
        n_text: text tokens, likewise; by default the note's, or those of a question of 15 words in
            the model's chat template.

    Raises:
        BudgetError: both `picture` and `n_visual`.
        ModelError: a `picture` for a model without a processor.
    """
    refuse_both(picture, n_visual)
    if vlm.processor is None and picture is None:
        return _assumed_prompt(note, n_visual, n_text)
    prompt = typical_prompt(vlm, picture or USUAL_SIZE)
    noted = note.n_visual if note is not None and picture is None else None
    prompt = prompt._replace(visual=n_visual or noted or prompt.visual)
    text = n_text or (note.n_text if note is not None else None)
    return prompt if text is None else prompt.with_text(text)


def _assumed_prompt(
    note: BudgetNote | None, n_visual: int | None, n_text: int | None
) -> PromptLengths:
    """The prompt as given, as noted, or as assumed, in this order; text follows the picture."""
    visual = n_visual or (note and note.n_visual) or ASSUMED_VISUAL
    return PromptLengths(0, visual, n_text or (note and note.n_text) or ASSUMED_TEXT)


def assumption(
    vlm: VLM,
    note: BudgetNote | None = None,
    *,
    n_visual: int | None = None,
    n_text: int | None = None,
) -> str | None:
    """What `prompt_for` assumes for a model without a processor, a sentence; None for nothing."""
    assumed = []
    if not (n_visual or (note and note.n_visual)):
        assumed.append(f"{ASSUMED_VISUAL} visual tokens (--visual-tokens)")
    if not (n_text or (note and note.n_text)):
        assumed.append(f"{ASSUMED_TEXT} text tokens (--text-tokens)")
    if vlm.processor is not None or not assumed:
        return None
    return (
        "the model came without a processor, which says how long its prompts are, so "
        f"{' and '.join(assumed)} are assumed"
    )


def cost_report(
    schedule: Schedule,
    vlm: VLM,
    prompt: PromptLengths,
    *,
    any_model: bool = False,
    assumed: str | None = None,
) -> CostReport:
    """Count the cost of `prompt` under `schedule`; the model's weights are not needed.

    `assumed` is a sentence for the reader about how `prompt` was chosen.

    Raises:
        ScheduleError: the schedule is for another model.
        PruningError: it cannot be run on this one.
    """
    schedule.check(vlm, any_model=any_model)
    refuse_schedule(schedule, vlm.model)
    config, size = text_config(vlm.model), vlm.dtype.itemsize
    shown = prompt._replace(visual=schedule.shown_tokens(prompt.visual))
    pruned = forecast(schedule.stages, schedule.scorer, config, shown, element_size=size)
    most, worst = at_most(schedule.stages), None
    if most != schedule.stages:
        worst = forecast(most, schedule.scorer, config, shown, element_size=size)
    published = tuple(
        PublishedCost(
            formula,
            published_macs(formula, schedule.stages, config, shown),
            published_macs(formula, (), config, prompt),
        )
        for formula in FORMULAS
    )
    return CostReport(
        schedule=schedule,
        prompt=prompt,
        dtype=str(vlm.dtype).removeprefix("torch."),
        pruned=pruned,
        unpruned=forecast((), schedule.scorer, config, prompt, element_size=size),
        published=published,
        notes=(*([assumed] if assumed else []), *_notes(schedule, pruned, worst, vlm)),
        worst=worst,
    )


def _worst_json(worst: Forecast) -> dict[str, Any]:
    return {
        "tokens_per_layer": list(worst.tokens_per_layer),
        "readable_per_layer": list(worst.readable_per_layer),
        "average": worst.average,
        "macs": {**worst.macs._asdict(), "total": worst.macs.total},
        "kv_bytes": worst.kv_bytes,
    }


def _notes(schedule: Schedule, pruned: Forecast, worst: Forecast | None, vlm: VLM) -> list[str]:
    dtype = str(vlm.dtype).removeprefix("torch.")
    notes = [
        "this is one prompt of so many tokens; `tokenlens run` counts every sample's own, and its "
        f"cache in the dtype it runs in, which is {dtype} here (--dtype)"
    ]
    if worst is not None:
        notes.append(
            "a stage keeps by mass: counted for importance that is exponentially distributed; at "
            f"the most it can keep it is {worst.average:.1f} visual tokens per layer and "
            f"{worst.macs.total / 1e9:,.3f} GMACs"
        )
    if schedule.budget is not None and schedule.budget.reached is not None:
        notes.append("the budget is met as nearly as whole tokens allow, by more than 1 % not")
    if not pruned.keys_exact:
        notes.append(
            "a sliding window cuts through the picture: the cache is counted as if the tokens "
            "that are left lay evenly"
        )
    return notes
