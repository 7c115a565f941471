"""A smaller picture: what every method has to beat."""

from tokenlens.methods.method import Method

METHOD = Method(
    name="downsample",
    summary="prune nothing, but shrink the picture before it is processed",
    source=(
        "No publication of its own; VTC-Bench (arXiv 2510.07143) finds that it beats many methods. "
        "Every picture is resized to the budget's share of its visual tokens, both sides alike, so "
        "the budget is met to the nearest whole grid: of 12 x 12 tokens, 33 % are 7 x 7, which is "
        "34.0 %. A schedule made for a model with its processor says so in `budget`; what each "
        "sample came to is in the trace. The vision tower runs on less, too, which no other method "
        "does and no cost here counts. Towers with a fixed grid (LLaVA-1.5) have their position "
        "embeddings interpolated, which they were not trained on. Families whose pictures become "
        "whole tiles or always as many tokens are refused."
    ),
    own_layers=lambda _layers: [],
    stages=lambda _layers: [],
    smaller_picture=True,
)
