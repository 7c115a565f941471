"""SwiftVLM: chosen layers, and a bypass for what an early one does not choose."""

from tokenlens.methods.method import Method
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages


def relative_layers(layers: int) -> list[int]:
    """Layers 3, 11 and 15 of 32, at the same depth in a model of `layers`, two apart at least.

    >>> relative_layers(32), relative_layers(12), relative_layers(6)
    ([3, 11, 15], [3, 5, 7], [3, 5])
    """
    second = max(5, round(layers * 11 / 32))
    third = max(second + 2, round(layers * 15 / 32))
    return [layer for layer in (3, second, third) if layer <= layers]


METHOD = Method(
    name="swiftvlm",
    summary="re-score at chosen layers; what is not chosen bypasses the layers between",
    source=(
        "arXiv 2602.03134. Without layers from a profile (`tokenlens select-layers`), those "
        "published for LLaVA-1.5-7B (3, 11, 15 of 32) are taken at the same relative depth."
    ),
    own_layers=relative_layers,
    layers_from="profile",
    stages=swiftvlm_stages,
)
