"""Do losses of layers add up? Answers that stay where only some layers update visual tokens.

    python -m tokenlens.analyses.studies.updated_layers --layers 3,6 --layers 1-9 --readable-to 15

In the layers of each `--layers` visual tokens are updated; in the others they are readable up to
`--readable-to`, and gone behind it. The model answers calibration samples greedily, unpruned. Then
it runs along its own answers, and the share of answers that stay, token by token, is printed: with
all visual tokens, and where a `--budget` in MACs does not reach for all of them, with as many as it
reaches for, evenly spaced. No labels are used.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from tokenlens.errors import BudgetError, OptionError
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.running.generation import Prepared, answer_tokens
from tokenlens.measures.divergence import same_top
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.models.loading import load
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.pruning.engine import prune
from tokenlens.samples.dataset import load_samples, with_pictures
from tokenlens.schedule import ModelRef, Schedule, Scorer
from tokenlens.selection.layer_modes import Mode, ModePath
from tokenlens.selection.solve import Budget, parse_budget, solved_schedule
from tokenlens.wording.figures import interval_cell, percent

from . import command
from .paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.sample import Sample

_MAX_NEW_TOKENS = 32


def modes(updated: Sequence[int], readable_to: int, layers: int) -> tuple[Mode, ...]:
    """What every layer is given; layers are counted from 1.

    >>> modes([1, 3], 3, 4)
    ('updated', 'readable', 'updated', 'aside')
    """
    return tuple(
        "updated" if layer in updated else "readable" if layer <= readable_to else "aside"
        for layer in range(1, layers + 1)
    )


def schedule_of(
    model: ModelRef, given: Sequence[Mode], budget: Budget | None, n_visual: int, meter: DecoderMacs
) -> Schedule:
    """The layers' modes for all tokens, or for as many, evenly spaced, as `budget` reaches for."""
    path, scorer = ModePath(tuple(given), (), 0.0), Scorer(query="uniform")
    whole = Schedule(schema=1, method="updated", model=model, scorer=scorer, stages=path((), 1.0))
    if budget is None:
        return whole
    try:
        return solved_schedule(
            "updated",
            model,
            path((), 0.25),
            budget,
            n_visual=n_visual,
            scorer=scorer,
            ratio_rule=path,
            meter=meter,
        )
    except BudgetError:  # all tokens take less
        return whole


def compute(
    vlm: VLM,
    samples: Sequence[Sample],
    sets: Sequence[Sequence[int]],
    readable_to: int,
    budgets: Sequence[Budget | None] = (None,),
    *,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Answers that stay, for each budget (None: all tokens) and each set of updated layers.

    Returns:
        Columns `budget` (empty for all tokens), `layers`, `tokens` (share of the visual tokens),
        `samples`, and `same`, the share of answers all of whose tokens stay the most likely, with
        `low` and `high`, the ends of its 95 % bootstrap interval.
    """
    model, meter = ModelRef.of(vlm), DecoderMacs.of(vlm)
    first = Prepared(vlm, samples[:1]).batch(None)
    n_visual = len(first.layouts[0].positions)
    arms = [
        (
            str(budget or ""),
            one,
            schedule_of(model, modes(one, readable_to, vlm.layers), budget, n_visual, meter),
        )
        for budget in budgets
        for one in sets
    ]
    stays: list[list[float]] = [[] for _ in arms]
    for start in range(0, len(samples), batch_size):
        batch = Prepared(vlm, samples[start : start + batch_size]).batch(None)
        forced = ForcedBatch.of(batch.inputs, answer_tokens(vlm, batch.inputs, _MAX_NEW_TOKENS))
        reference = forced.logits(vlm)
        for found, (_, _, schedule) in zip(stays, arms, strict=True):
            with prune(vlm, schedule):
                others = forced.logits(vlm)
            found += [
                float(same_top(own.numpy(), other.numpy()).all())
                for own, other in zip(reference, others, strict=True)
            ]
    rows = []
    for (budget, one, schedule), found in zip(arms, stays, strict=True):
        entering = max(schedule.tokens_entering(n_visual, vlm.layers)) / n_visual
        same, low, high = map(float, bootstrap_interval(found))
        rows.append((budget, list(one), entering, len(found), same, low, high))
    columns = ["budget", "layers", "tokens", "samples", "same", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """A row per budget and set of layers."""
    rows = [
        [
            row.budget,
            ", ".join(map(str, row.layers)),
            str(len(row.layers)),
            percent(row.tokens),
            str(row.samples),
            interval_cell(row.same, row.low, row.high),
        ]
        for row in table.itertuples()
    ]
    heads = ["budget", "updated in", "layers", "visual tokens", "samples", "same answer"]
    return markdown_table(heads, rows, words=2)


def parse_layers(text: str) -> list[int]:
    """Layers as on the command line; raises `OptionError` for anything else.

    >>> parse_layers("1-3,9")
    [1, 2, 3, 9]
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if not all(end.strip().isdecimal() for end in ends) or len(ends) > 2:
            raise OptionError(f"--layers: got {text!r}, expected layers such as 1-3,9")
        found.update(range(int(ends[0]), int(ends[-1]) + 1))
    return sorted(found)


def main() -> None:
    """Print the table."""
    parser = command.arguments("updated_layers", "Answers that stay while few layers update.")
    parser.add_argument("--layers", action="append", required=True, help="1-3,9; may be repeated")
    parser.add_argument("--readable-to", type=int, required=True, help="last layer with tokens")
    command.run(parser, _table)


def _table(options: Namespace) -> str:
    sets = [parse_layers(text) for text in options.layers]
    loaded = load_samples(options.data, "calibration", options.limit, options.task)
    samples = with_pictures(loaded, "the study")
    vlm = load(options.model)
    command.check_layers([options.readable_to, *(n for one in sets for n in one)], vlm.layers)
    budgets = (None, *map(parse_budget, options.budget or ()))
    batch_size = options.batch_size
    return markdown(
        compute(vlm, samples, sets, options.readable_to, budgets, batch_size=batch_size)
    )


if __name__ == "__main__":
    main()
