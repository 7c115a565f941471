"""Look-up of a model's adapter, and of the parts that it may lack."""

from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import ModelError
from tokenlens.models.adapters.adapter import Adapter
from tokenlens.models.adapters.families import ADAPTERS
from tokenlens.models.adapters.shrinking import Shrinking
from tokenlens.models.adapters.towers import Tower, no_tower


def find_adapter(config: PreTrainedConfig) -> Adapter | None:
    """The adapter of a configuration's family, None for a family without one.

    >>> from transformers import Qwen2VLConfig
    >>> find_adapter(Qwen2VLConfig()).family
    'Qwen2-VL'
    """
    return ADAPTERS.get(config.model_type)


def required_tower(model: PreTrainedModel) -> Tower:
    """How to read the vision tower of a model. Raises `ModelError` where it cannot be read."""
    adapter = find_adapter(model.config)
    tower = adapter and adapter.tower(model)
    if not tower:
        family = adapter.family if adapter else type(model).__name__
        kind = getattr(getattr(model.config, "vision_config", None), "model_type", "vision")
        known = ", ".join(one.family for one in ADAPTERS.values() if one.tower is not no_tower)
        raise ModelError(
            f"the {kind} tower of this {family} model cannot be read, which scorer.query 'vision' "
            "and disposal 'contextual' (visionzip) need; use divprune or another method, or a "
            f"model of {known}"
        )
    return tower


def required_shrinking(config: PreTrainedConfig) -> Shrinking:
    """How smaller pictures are prepared; `ModelError` where they would not become fewer tokens.

    >>> from transformers import PaliGemmaConfig
    >>> required_shrinking(PaliGemmaConfig())
    Traceback (most recent call last):
    ...
    tokenlens.errors.ModelError: a smaller picture of PaliGemma (fixed grid) does not become fewer \
visual tokens as its size says; use another method, such as 'stride', or a model of Qwen2-VL, \
Qwen2.5-VL, Qwen3-VL, LLaVA-1.5, Mistral3
    """
    adapter = find_adapter(config)
    if adapter is None or adapter.shrinking is None:
        known = ", ".join(one.family for one in ADAPTERS.values() if one.shrinking is not None)
        what = f"{adapter.family} ({adapter.tokens})" if adapter else repr(config.model_type)
        raise ModelError(
            f"a smaller picture of {what} does not become fewer visual tokens as its size says; "
            f"use another method, such as 'stride', or a model of {known}"
        )
    return adapter.shrinking
