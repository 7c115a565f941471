"""Do layers attend to the targets of a question, or to the anchors on the way to them?

The recall of either among each layer's highest-ranked visual tokens, in the unpruned model. In a
question of two steps, the anchors belong to the first step, the targets to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tokenlens.measures.intervals import bootstrap_interval
from tokenlens.measures.overlap import region_scores
from tokenlens.measures.regions import region_tokens

from .studies.paired_difference import markdown_table

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile
    from tokenlens.samples.sample import Sample

TOP = 0.2
PARTS = {"targets": "boxes", "anchors": "anchors"}
"""Parts of a question's things, and the field of a sample with their boxes."""


def compute(profile: Profile, samples: Sequence[Sample], *, top: float = TOP) -> pd.DataFrame:
    """Mean recall per layer with its 95 % bootstrap interval, targets and anchors apart.

    Args:
        profile: of these samples.
        samples: samples with the boxes of the anchors.
        top: share of tokens that count as highly ranked.

    Returns:
        Columns task, part (`targets` or `anchors`), layer (from 1), mean, low, high, samples. A
        sample counts for the parts it has boxes of.
    """
    known = {sample.id: sample for sample in samples}
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in profile.rows():
        for part, field in PARTS.items():
            if row.more_images:
                region = row.region if field == "boxes" else np.zeros_like(row.region)
            else:
                region = region_tokens(row.boxes, row.size, getattr(known[row.id], field))
            if region.any():
                score = region_scores(row.importance, region, "recall", top)
                found.setdefault((row.task, part), []).append(score)
    frames = []
    for (task, part), values in found.items():
        mean, low, high = bootstrap_interval(np.stack(values))
        columns = {"layer": np.arange(1, len(mean) + 1), "mean": mean, "low": low, "high": high}
        frames.append(pd.DataFrame({"task": task, "part": part, **columns, "samples": len(values)}))
    empty = pd.DataFrame(columns=["task", "part", "layer", "mean", "low", "high", "samples"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def markdown(table: pd.DataFrame) -> str:
    """Recall in per cent: a row per layer, a column per task and part."""
    wide = table.pivot(index="layer", columns=["task", "part"], values="mean")
    heads = ["layer", *(f"{task}: {part}" for task, part in wide.columns)]
    lines = [
        [str(layer), *(f"{100 * value:.1f}" for value in row)] for layer, row in wide.iterrows()
    ]
    return markdown_table(heads, lines, words=0)
