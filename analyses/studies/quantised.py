"""Does quantising a model change what it answers, and which tokens it keeps?

    python -m tokenlens.analyses.studies.quantised --model tiny-qwen2-vl --limit 48

The model answers held-out samples in every way it can be loaded here: as it is, with its weights on
the disk, and quantised. Every answer and every kept token is compared with those of the model as it
is, unpruned and under a preset at a budget. A way that cannot be loaded here is named below the
table, with its error.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from itertools import chain
from json import loads
from typing import TYPE_CHECKING, Any

import pandas as pd

from tokenlens.errors import ModelError
from tokenlens.evaluation.metrics.agreement import agreement
from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.models.loading import load
from tokenlens.models.quantisation import QUANTISATIONS
from tokenlens.models.tensor_parts import plain_parts
from tokenlens.samples.dataset import load_samples
from tokenlens.schedule import Schedule
from tokenlens.wording.figures import interval_cell, percent

from . import command
from .paired_difference import markdown_table

if TYPE_CHECKING:
    from torch import nn

    from tokenlens.samples.dataset import Samples

WHOLE = "float32"
WAYS: Mapping[str, dict[str, Any]] = {
    WHOLE: {"device": "cpu", "dtype": "float32"},
    "weights on the disk": {"device_map": "disk", "dtype": "float32"},
    **{name: {"quantize": name, "dtype": "float32", "device": "cpu"} for name in QUANTISATIONS},
}
"""Ways to load a model, the one that the others are compared with first: arguments of `load`."""


def compute(
    model: str, samples: Samples, method: str, budget: str, batch_size: int = 8
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per way of loading, and the errors of those that cannot be loaded here.

    Columns: `way`, `mebibytes` of weights in memory or on the disk, `samples`, `score` of the
    unpruned model, and `same` and `pruned`, the shares of samples whose unpruned and pruned answer
    is the whole model's own, each with `_low` and `_high` of its 95 % interval, and `kept`, the
    mean share of tokens kept by a stage that the whole model keeps there too.
    """
    rows: list[dict[str, Any]] = []
    errors: dict[str, str] = {}
    whole: tuple[pd.DataFrame, pd.DataFrame] | None = None
    for way, how in WAYS.items():
        try:
            vlm = load(model, **how)
        except ModelError as error:
            errors[way] = str(error)
            continue
        schedule = Schedule.preset(method, vlm, budget=budget)
        mine = tuple(
            evaluate(vlm, samples, one, batch_size=batch_size, show_progress=True).rows
            for one in (None, schedule)
        )
        whole = whole or mine
        rows.append(
            {
                "way": way,
                "mebibytes": weight_bytes(vlm.model) / 2**20,
                "samples": len(samples),
                "score": float(mine[0]["score"].mean()),
                **_same("same", mine[0], whole[0]),
                **_same("pruned", mine[1], whole[1]),
                "kept": _kept_alike(mine[1], whole[1]),
            }
        )
    return pd.DataFrame(rows), errors


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, scales of quantised ones included; tied weights once."""
    named = chain.from_iterable(plain_parts(*pair) for pair in model.named_parameters())
    return sum(part.numel() * part.element_size() for _, part in named)


def _same(name: str, rows: pd.DataFrame, others: pd.DataFrame) -> dict[str, float]:
    found = agreement(rows["prediction"], others["prediction"])
    keys = (name, f"{name}_low", f"{name}_high")
    return dict(zip(keys, map(float, bootstrap_interval(found.to_numpy())), strict=True))


def _kept_alike(rows: pd.DataFrame, others: pd.DataFrame) -> float:
    shares = [
        len(set(mine) & set(theirs)) / max(1, len(theirs))
        for mine, theirs in _pairs(rows["selected"], others["selected"])
    ]
    return sum(shares) / len(shares)


def _pairs(rows: pd.Series, others: pd.Series) -> Iterator[tuple[list[int], list[int]]]:
    """The kept tokens of every stage of every sample, of both runs."""
    for mine, theirs in zip(rows, others, strict=True):
        yield from zip(loads(mine), loads(theirs), strict=True)


def markdown(table: pd.DataFrame, errors: Mapping[str, str]) -> str:
    """A row per way of loading, and what could not be loaded."""
    rows = [
        [
            row.way,
            f"{row.mebibytes:.1f}",
            str(row.samples),
            percent(row.score),
            interval_cell(row.same, row.same_low, row.same_high),
            interval_cell(row.pruned, row.pruned_low, row.pruned_high),
            percent(row.kept),
        ]
        for row in table.itertuples()
    ]
    heads = ["loaded", "weights in MiB", "samples", "score", "same answer", "same answer, pruned"]
    text = markdown_table([*heads, "kept tokens alike"], rows)
    left = [f"- {way} was not loaded: {error}" for way, error in errors.items()]
    return "\n".join([text, *(["", *left] if left else [])])


def main() -> None:
    """Print the table."""
    parser = command.arguments("quantised", "Answers of a model loaded in several ways.")
    parser.add_argument("--method", default="swiftvlm", help="preset of the pruned runs")
    command.run(parser, _table)


def _table(options: Namespace) -> str:
    samples = load_samples(options.data, "held-out", options.limit, options.task)
    budget, *_ = options.budget or command.BUDGETS
    return markdown(*compute(options.model, samples, options.method, budget, options.batch_size))


if __name__ == "__main__":
    main()
