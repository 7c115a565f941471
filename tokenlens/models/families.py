"""Names of the supported model families, and the support table.

Nothing here imports torch or transformers; the adapters of the families are in `adapters.families`.
"""

from typing import NamedTuple

from tokenlens.models.aliases import BUNDLED, HUB_IDS
from tokenlens.models.composed import COMPOSED


class Family(NamedTuple):
    """A family of models.

    Attributes:
        family: its usual name.
        architecture: the Hugging Face class.
        tokens: the visual tokens of a picture, in a few words.
    """

    family: str
    architecture: str
    tokens: str


_DYNAMIC = "dynamic grid, patches merged"
_TILED = "tiles, then an overview; patches shuffled together"

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family("Qwen2-VL", "Qwen2VLForConditionalGeneration", _DYNAMIC),
    "qwen2_5_vl": Family("Qwen2.5-VL", "Qwen2_5_VLForConditionalGeneration", _DYNAMIC),
    "qwen3_vl": Family("Qwen3-VL", "Qwen3VLForConditionalGeneration", _DYNAMIC),
    "llava": Family("LLaVA-1.5", "LlavaForConditionalGeneration", "fixed grid of a centre crop"),
    "llava_next": Family(
        "LLaVA-NeXT",
        "LlavaNextForConditionalGeneration",
        "an overview, then unpadded tiles with newline tokens",
    ),
    "llava_onevision": Family(
        "LLaVA-OneVision",
        "LlavaOnevisionForConditionalGeneration",
        "as LLaVA-NeXT, interpolated above a limit; several pictures: one grid each",
    ),
    "internvl": Family("InternVL", "InternVLForConditionalGeneration", _TILED),
    "smolvlm": Family("SmolVLM", "SmolVLMForConditionalGeneration", _TILED),
    "idefics3": Family("Idefics3", "Idefics3ForConditionalGeneration", _TILED),
    "gemma3": Family("Gemma3", "Gemma3ForConditionalGeneration", "fixed grid, patches averaged"),
    "mistral3": Family(
        "Mistral3",
        "Mistral3ForConditionalGeneration",
        "dynamic grid, patches merged; break tokens are text",
    ),
    "paligemma": Family("PaliGemma", "PaliGemmaForConditionalGeneration", "fixed grid"),
}
"""`config.model_type` to the family."""


def support_table() -> list[dict[str, str]]:
    """One row per family with its bundled models and the aliases of its hub ids, for printing."""
    return [
        {
            "family": one.family,
            "model type": model_type,
            "architecture": one.architecture,
            "tokens": one.tokens,
            "bundled": ", ".join(n for n, of in BUNDLED.items() if of == one.family) or "-",
            "composed": "\n".join(n for n, of in COMPOSED.items() if of.family == one.family),
            "alias": "\n".join(HUB_IDS.get(one.family, {})),
            "hub id": "\n".join(HUB_IDS.get(one.family, {}).values()),
        }
        for model_type, one in FAMILIES.items()
    ]
