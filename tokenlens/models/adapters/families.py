"""The families, one adapter each. The probe and the engine know nothing of them."""

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

_PALIGEMMA_PROMPT = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
"""Pictures, then the question; the processor adds the start token and the line's end."""

_DYNAMIC = "dynamic grid, patches merged"
_TILED = "tiles, then an overview; patches shuffled together"
_MERGED = Shrinking(merged_pictures, any_size)

ADAPTERS: dict[str, Adapter] = {
    adapter.model_type: adapter
    for adapter in (
        Adapter(
            family="Qwen2-VL",
            model_type="qwen2_vl",
            architecture="Qwen2VLForConditionalGeneration",
            tokens=_DYNAMIC,
            pictures=merged_grids,
            videos=merged_frames,
            tower=merging_tower,
            shrinking=_MERGED,
        ),
        Adapter(
            family="Qwen2.5-VL",
            model_type="qwen2_5_vl",
            architecture="Qwen2_5_VLForConditionalGeneration",
            tokens=_DYNAMIC,
            pictures=merged_grids,
            videos=merged_frames,
            tower=windowed_tower,
            shrinking=_MERGED,
        ),
        Adapter(
            family="Qwen3-VL",
            model_type="qwen3_vl",
            architecture="Qwen3VLForConditionalGeneration",
            tokens=_DYNAMIC,
            pictures=merged_grids,
            videos=merged_frames,
            tower=merging_tower,
            shrinking=_MERGED,
        ),
        Adapter(
            family="LLaVA-1.5",
            model_type="llava",
            architecture="LlavaForConditionalGeneration",
            tokens="fixed grid of a centre crop",
            pictures=centre_crop,
            tower=stacked_tower,
            shrinking=Shrinking(cropped_pictures, fixed_positions),
        ),
        Adapter(
            family="LLaVA-NeXT",
            model_type="llava_next",
            architecture="LlavaNextForConditionalGeneration",
            tokens="an overview, then unpadded tiles with newline tokens",
            pictures=next_tiles,
        ),
        Adapter(
            family="LLaVA-OneVision",
            model_type="llava_onevision",
            architecture="LlavaOnevisionForConditionalGeneration",
            tokens="as LLaVA-NeXT, interpolated above a limit; several pictures: one grid each",
            pictures=onevision_tiles,
        ),
        Adapter(
            family="InternVL",
            model_type="internvl",
            architecture="InternVLForConditionalGeneration",
            tokens=_TILED,
            pictures=internvl_tiles,
            tower=shuffled_tower,
        ),
        Adapter(
            family="SmolVLM",
            model_type="smolvlm",
            architecture="SmolVLMForConditionalGeneration",
            tokens=_TILED,
            pictures=idefics3_tiles,
            tower=scaled_tower,
        ),
        Adapter(
            family="Idefics3",
            model_type="idefics3",
            architecture="Idefics3ForConditionalGeneration",
            tokens=_TILED,
            pictures=idefics3_tiles,
            tower=scaled_tower,
        ),
        Adapter(
            family="Gemma3",
            model_type="gemma3",
            architecture="Gemma3ForConditionalGeneration",
            tokens="fixed grid, patches averaged",
            pictures=square_grid,
            tower=averaged_tower,
        ),
        Adapter(
            family="Mistral3",
            model_type="mistral3",
            architecture="Mistral3ForConditionalGeneration",
            tokens="dynamic grid, patches merged; break tokens are text",
            pictures=pixtral_rows,
            shrinking=Shrinking(broken_pictures, any_size),
        ),
        Adapter(
            family="PaliGemma",
            model_type="paligemma",
            architecture="PaliGemmaForConditionalGeneration",
            tokens="fixed grid",
            pictures=square_grid,
            tower=stacked_tower,
            chat_template=_PALIGEMMA_PROMPT,
        ),
    )
}
"""`config.model_type` to the family's adapter."""
