"""The model families, one adapter each. The probe and the engine do not depend on them."""

from typing import Any

from tokenlens.models.adapters.adapter import Adapter
from tokenlens.models.adapters.anyres import next_tiles, onevision_tiles
from tokenlens.models.adapters.cropped import centre_crop
from tokenlens.models.adapters.shrinking import (
    Shrinking,
    any_size,
    broken_pictures,
    cropped_pictures,
    fixed_positions,
    merged_pictures,
)
from tokenlens.models.adapters.stretched import (
    merged_frames,
    merged_grids,
    pixtral_rows,
    square_grid,
)
from tokenlens.models.adapters.tiles import idefics3_tiles, internvl_tiles
from tokenlens.models.adapters.towers import (
    averaged_tower,
    merging_tower,
    scaled_tower,
    shuffled_tower,
    stacked_tower,
    windowed_tower,
)
from tokenlens.models.families import FAMILIES

_PALIGEMMA_PROMPT = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
"""Pictures, then the question; the processor adds the start token and the line's end."""

_MERGED = Shrinking(merged_pictures, any_size)


def _adapter(model_type: str, **rest: Any) -> Adapter:
    """The adapter of a family that `FAMILIES` names."""
    return Adapter(model_type=model_type, **FAMILIES[model_type]._asdict(), **rest)


ADAPTERS: dict[str, Adapter] = {
    adapter.model_type: adapter
    for adapter in (
        _adapter(
            "qwen2_vl",
            pictures=merged_grids,
            videos=merged_frames,
            tower=merging_tower,
            shrinking=_MERGED,
        ),
        _adapter(
            "qwen2_5_vl",
            pictures=merged_grids,
            videos=merged_frames,
            tower=windowed_tower,
            shrinking=_MERGED,
        ),
        _adapter(
            "qwen3_vl",
            pictures=merged_grids,
            videos=merged_frames,
            tower=merging_tower,
            shrinking=_MERGED,
        ),
        _adapter(
            "llava",
            pictures=centre_crop,
            tower=stacked_tower,
            shrinking=Shrinking(cropped_pictures, fixed_positions),
        ),
        _adapter(
            "llava_next",
            pictures=next_tiles,
        ),
        _adapter(
            "llava_onevision",
            pictures=onevision_tiles,
        ),
        _adapter(
            "internvl",
            pictures=internvl_tiles,
            tower=shuffled_tower,
        ),
        _adapter(
            "smolvlm",
            pictures=idefics3_tiles,
            tower=scaled_tower,
        ),
        _adapter(
            "idefics3",
            pictures=idefics3_tiles,
            tower=scaled_tower,
        ),
        _adapter(
            "gemma3",
            pictures=square_grid,
            tower=averaged_tower,
        ),
        _adapter(
            "mistral3",
            pictures=pixtral_rows,
            shrinking=Shrinking(broken_pictures, any_size),
        ),
        _adapter(
            "paligemma",
            pictures=square_grid,
            tower=stacked_tower,
            chat_template=_PALIGEMMA_PROMPT,
        ),
    )
}
"""`config.model_type` to the family's adapter."""
