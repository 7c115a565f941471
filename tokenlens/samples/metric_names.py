"""The names of the metrics that samples may ask for.

`evaluation.metrics` holds the metrics themselves, which need a model's answers; the names are here
so that a manifest with a wrong one is refused when it is read.
"""

METRIC_NAMES = ("exact", "box", "vqa", "choice", "mmbench", "pope", "mme")
