"""The rows of results (`results.ROW_SCHEMA`), made of answered samples."""

import json
from dataclasses import asdict
from math import isnan
from typing import Any

from tokenlens.evaluation.metrics.boxes import BoxReader, parse_box
from tokenlens.evaluation.metrics.sample_metrics import score
from tokenlens.evaluation.running.answer_cache import Answered
from tokenlens.probing.sample_rows import sample_row, several_row
from tokenlens.samples.sample import Sample

_MAY_LACK = ("score", "prefill_s", "decode_s")


def result_row(
    sample: Sample, answered: Answered, read_box: BoxReader = parse_box
) -> dict[str, Any]:
    """The row of one answered sample; `read_box` reads boxes as the model writes them."""
    answer = answered.answer
    points = score(answer.prediction, sample, answered.size, read_box)
    row = {
        **sample_row(sample, answered.sizes, answered.layout),
        **several_row(sample, answered.sizes, answered.layout),
        "metric": sample.metric,
        "group": sample.group,
        **asdict(answer),
        "score": points,
        "selected": json.dumps(answer.selected),
    }
    return {name: None if name in _MAY_LACK and isnan(row[name]) else row[name] for name in row}
