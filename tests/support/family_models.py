"""A small random model of every family: six decoder layers, 32 wide, in float64.

Every one has its own vision tower and its own way of putting pictures into the prompt; only width
and depth are unlike the published models.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    Olmo2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

LAYERS, VOCABULARY, WINDOW = 6, 64, 12
PAD, IMAGE, VIDEO, START, END, BREAK, FIRST_WORD = 0, 5, 6, 7, 8, 9, 10
PATCH, SIDE, TILE = 4, 5, 32
"""Pixels of a patch, patches along a fixed-size picture, pixels along a tile."""

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADED = {**TEXT, "head_dim": 8}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
SLIDING = ["sliding_attention", "full_attention"] * (LAYERS // 2)


def vision_tower(model_type: str, pixels: int, layers: int = 2) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": pixels,
        "patch_size": PATCH,
    }


def _mrope(**more: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1e3, "mrope_section": [2, 1, 1]}
    return {"rope_parameters": {**rope, **more}}


QWEN_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}


def _qwen2_vl() -> PreTrainedModel:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    vision |= {"patch_size": PATCH, "spatial_merge_size": 2}
    config = Qwen2VLConfig(text_config={**TEXT, **_mrope()}, vision_config=vision, **QWEN_TOKENS)
    return Qwen2VLForConditionalGeneration(config)


def _qwen2_5_vl() -> PreTrainedModel:
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64}
    vision |= {"num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2}
    vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(text_config={**TEXT, **_mrope()}, vision_config=vision, **QWEN_TOKENS)
    return Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl() -> PreTrainedModel:
    """Visual features are added to the outputs of the first two layers."""
    vision = {"depth": 3, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64}
    vision |= {"num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    text = {**HEADED, **_mrope(mrope_interleaved=True)}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, **QWEN_TOKENS)
    )


def _llava(text: PreTrainedConfig) -> Callable[[], PreTrainedModel]:
    def build() -> PreTrainedModel:
        vision = vision_tower("clip_vision_model", SIDE * PATCH)
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
        return LlavaForConditionalGeneration(config)

    return build


def _pixtral() -> PreTrainedModel:
    """The LLaVA shell round Pixtral's tower: pictures of any size, rows ended by a break token."""
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision_tower("pixtral", 64),
            text_config=MistralConfig(**HEADED, sliding_window=None),
            image_token_index=IMAGE,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    )


def _llava_next() -> PreTrainedModel:
    return LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config=vision_tower("clip_vision_model", 16),
            text_config=LlamaConfig(**TEXT),
            image_token_index=IMAGE,
            image_grid_pinpoints=PINPOINTS,
        )
    )


def _llava_onevision() -> PreTrainedModel:
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config={**vision_tower("siglip_vision_model", 16), "vision_use_head": False},
            text_config=Qwen2Config(**TEXT),
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=PINPOINTS,
        )
    )


def _internvl() -> PreTrainedModel:
    vision = vision_tower("internvl_vision", TILE)
    vision |= {"image_size": [TILE, TILE], "patch_size": [PATCH, PATCH]}
    config = InternVLConfig(
        vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=IMAGE
    )
    return InternVLForConditionalGeneration(config)


def _idefics(
    config: type[PreTrainedConfig], model: type[PreTrainedModel], tower: str
) -> Callable[[], PreTrainedModel]:
    def build() -> PreTrainedModel:
        text = LlamaConfig(**TEXT)
        vision = vision_tower(tower, TILE)
        return model(config(vision_config=vision, text_config=text, image_token_id=IMAGE))

    return build


def _gemma3() -> PreTrainedModel:
    """Windows shorter than a picture, rotary by layer type, pictures that see themselves whole."""
    text = {**HEADED, "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "layer_types": SLIDING}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            vision_config={**vision_tower("siglip_vision_model", TILE), "vision_use_head": False},
            text_config=text,
            image_token_index=IMAGE,
            mm_tokens_per_image=16,
        )
    )


def _mistral3() -> PreTrainedModel:
    return Mistral3ForConditionalGeneration(
        Mistral3Config(
            vision_config=vision_tower("pixtral", 64),
            text_config=MistralConfig(**HEADED, sliding_window=None),
            image_token_index=IMAGE,
        )
    )


def _paligemma(text: PreTrainedConfig) -> Callable[[], PreTrainedModel]:
    """A prompt that sees itself whole; positions from 1."""

    def build() -> PreTrainedModel:
        vision = {**vision_tower("siglip_vision_model", SIDE * PATCH), "vision_use_head": False}
        return PaliGemmaForConditionalGeneration(
            PaliGemmaConfig(
                vision_config=vision, text_config=text, image_token_index=IMAGE, projection_dim=32
            )
        )

    return build


CAPPED = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0, "sliding_window": 4096}
"""Gemma2's caps, low enough for the logits of a random model to feel them."""

BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "Qwen2-VL": _qwen2_vl,
    "Qwen2.5-VL": _qwen2_5_vl,
    "Qwen3-VL": _qwen3_vl,
    "LLaVA-1.5": _llava(LlamaConfig(**TEXT)),
    "LLaVA-NeXT": _llava_next,
    "LLaVA-OneVision": _llava_onevision,
    "InternVL": _internvl,
    "SmolVLM": _idefics(SmolVLMConfig, SmolVLMForConditionalGeneration, "smolvlm_vision"),
    "Idefics3": _idefics(Idefics3Config, Idefics3ForConditionalGeneration, "idefics3_vision"),
    "Gemma3": _gemma3,
    "Mistral3": _mistral3,
    "Pixtral": _pixtral,
    "PaliGemma": _paligemma(GemmaConfig(**HEADED)),
    "PaliGemma2": _paligemma(
        Gemma2Config(**HEADED, query_pre_attn_scalar=8, layer_types=SLIDING, **CAPPED)
    ),
    "LLaVA + sliding Mistral": _llava(MistralConfig(**HEADED, sliding_window=WINDOW)),
    "LLaVA + Qwen3": _llava(Qwen3Config(**HEADED)),
    "LLaVA + Phi3": _llava(Phi3Config(**TEXT)),
    "LLaVA + Olmo2": _llava(Olmo2Config(**TEXT)),
}


def random_model(family: str, seed: int = 1) -> PreTrainedModel:
    """The family's model in eval mode, all parameters drawn anew; attention is not uniform."""
    return drawn(BUILDERS[family](), seed)


def drawn(model: PreTrainedModel, seed: int = 1) -> PreTrainedModel:
    """The model in eval mode and in float64 with all parameters drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.5 / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + ("norm" in name and name.endswith("weight")))
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    return model.double().eval()
