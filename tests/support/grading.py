"""What given answers to samples are worth, without a model."""

from collections.abc import Mapping, Sequence

import pandas as pd

from tokenlens.evaluation.metrics.sample_metrics import score
from tokenlens.evaluation.metrics.set_metrics import set_figures
from tokenlens.samples.sample import Sample


def graded(samples: Sequence[Sample], answers: Sequence[str]) -> pd.DataFrame:
    """The columns of a result that figures are made of."""
    return pd.DataFrame(
        {
            "id": sample.id,
            "task": sample.task,
            "metric": sample.metric,
            "group": sample.group,
            "image": str(sample.image),
            "answers": sample.answers,
            "prediction": answer,
            "score": score(answer, sample, sample.open_image().size),
        }
        for sample, answer in zip(samples, answers, strict=True)
    )


def figures(rows: pd.DataFrame) -> Mapping[str, dict[str, float]]:
    """The figures by task and name."""
    found: dict[str, dict[str, float]] = {}
    for task, name, value in set_figures(rows):
        found.setdefault(task, {})[name] = value
    return found
