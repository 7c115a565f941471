"""ShortV: visual tokens are frozen in the layers that contribute least."""

from collections.abc import Sequence

from tokenlens.methods.method import Method
from tokenlens.methods.tokenlens_preset import updating_layers
from tokenlens.schedule import Scorer, Stage
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.layer_modes import FreezingPath
from tokenlens.selection.solve import RatioRule


def _paths(needs: LayerNeeds, _: float | None) -> dict[str, RatioRule]:
    return {"freezing": FreezingPath(needs)}


def _stages(layers: Sequence[int]) -> list[Stage]:
    return FreezingPath(LayerNeeds.assumed(max(layers), layers))((), 0.5)


METHOD = Method(
    name="shortv",
    summary="in the layers that contribute least, visual tokens are not updated, but readable",
    source=(
        "arXiv 2504.00502: layer contribution is the divergence of the output where a layer's "
        "transformation of visual tokens is taken away. Here it is that of the information profile "
        "(`tokenlens information`: KL along the model's own answers, the mean over tokens of the "
        "task that loses most). Layers are taken back in the order of their contribution until the "
        "budget is spent, one of them for tokens at even distances; all tokens stay readable to "
        "the end. Without a profile the first quarter of the layers is taken to contribute, or "
        "`layers`, and the others after them from the shallowest on. A budget in tokens counts "
        "those that are updated."
    ),
    own_layers=updating_layers,
    layers_from="information",
    stages=_stages,
    scorer=Scorer(query="uniform"),
    by_needs=_paths,
)
