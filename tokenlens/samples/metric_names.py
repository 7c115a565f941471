"""Names of the metrics that samples may name.

The metrics themselves are in `evaluation.metrics`. The names are here so that a manifest with a
wrong one is refused when it is read.
"""

METRIC_NAMES = ("exact", "box", "vqa", "choice", "mmbench", "pope", "mme", "none")
